"""Kubernetes Jobs as pure data: what is asked of the cluster, and what it says of it."""

from __future__ import annotations

import hashlib
import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.pipelines.executors.dispatch import Sent, texts
from tidewheel.pipelines.executors.seam import Failure, Task

OPTIONS = (
    "image",
    "images",
    "python",
    "namespace",
    "kubeconfig",
    "context",
    "secret",
    "secrets",
    "service_account",
    "node_selector",
    "tolerations",
    "queue",
    "volumes",
    "mounts",
    "gpu_resource",
    "keep_seconds",
    "start_seconds",
    "look_seconds",
)
OURS = "app.kubernetes.io/managed-by=tidewheel"  # selects the Jobs of every run
EXECUTION, ATTEMPT, JOB = "tidewheel/execution", "tidewheel/attempt", "tidewheel/job"  # labels
_PROGRAM = ("-m", "tidewheel.pipelines.executors.remote")
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,45}[a-z0-9])?")
_UNREACHED = 3  # exit code of a worker that could leave no manifest
_STUCK = (
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """The options of the executor that shape a Job."""

    image: str  # container image with Python and tidewheel
    images: Mapping[str, str]  # image for steps by what their `isolate=` says
    python: str  # the interpreter in the image
    secret: str  # Kubernetes Secret that has a key for each secret not named in `secrets`; "" for none
    secrets: Mapping[str, str]  # "secret/key" by the name that steps use
    service_account: str  # "" for the namespace's own, without a token in the pod
    node_selector: Mapping[str, str]  # labels that a node must have
    tolerations: Sequence[Mapping[str, Any]]  # taints that are put up with
    queue: str  # Kueue's local queue; "" without
    volumes: Sequence[Mapping[str, Any]]  # volumes of the pod, say for a shared folder of blobs
    mounts: Sequence[Mapping[str, Any]]  # where the container sees them
    gpu_resource: str  # what a GPU is called
    keep_seconds: int  # time that a finished Job stays for `kubectl logs`
    start_seconds: int  # time that a pod may take to start, on top of a step's timeout
    variables: Mapping[str, str] = field(default_factory=dict)  # environment of every container


def wishes_of(options: Mapping[str, Any], variables: Mapping[str, str]) -> Wishes:
    """Return the options of the table; raises InvalidInput without an image and for odd ones."""
    image = str(options.get("image", ""))
    if not image:
        raise InvalidInput(
            "The executor kubernetes has no image.",
            'Write image = "registry/name:tag", with Python and tidewheel in it, into its table in tidewheel.toml.',
        )
    return Wishes(
        image=image,
        images=texts(options.get("images", {}), "images", "kubernetes"),
        python=str(options.get("python", "python")),
        secret=str(options.get("secret", "")),
        secrets=texts(options.get("secrets", {}), "secrets", "kubernetes"),
        service_account=str(options.get("service_account", "")),
        node_selector=texts(options.get("node_selector", {}), "node_selector", "kubernetes"),
        tolerations=_tables(options.get("tolerations", ()), "tolerations"),
        queue=str(options.get("queue", "")),
        volumes=_tables(options.get("volumes", ()), "volumes"),
        mounts=_tables(options.get("mounts", ()), "mounts"),
        gpu_resource=str(options.get("gpu_resource", "nvidia.com/gpu")),
        keep_seconds=int(options.get("keep_seconds", 600)),
        start_seconds=int(options.get("start_seconds", 600)),
        variables=variables,
    )


def _tables(value: Any, name: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list | tuple) or not all(isinstance(item, Mapping) for item in value):
        raise InvalidInput(f"{name} = {value!r} of the executor kubernetes is no list of tables.", "Write [{ ... }].")
    return list(value)


def job_name(execution_id: str, attempt: int) -> str:
    """Return the name of an attempt's Job: the same one whoever asks, so that it is made once.

    >>> job_name("0199-ab", 2)
    'tidewheel-0199-ab-2'
    """
    known = execution_id if _NAME.fullmatch(execution_id) else hashlib.sha256(execution_id.encode()).hexdigest()[:32]
    return f"tidewheel-{known}-{attempt}"


def job_of(sent: Sent, wishes: Wishes) -> dict[str, Any]:
    """Return the Job that executes an order.

    Raises InvalidInput for a fraction of a GPU, for `isolate=` without an image of its own and for a secret that no
    Kubernetes Secret is named for.
    """
    task = sent.task
    name = job_name(task.id, task.context.attempt)
    labels = _labels(task, name, wishes)
    # A pod whose node is drained or preempted is no fault of the step; what changes the world is not done twice.
    moved = "FailJob" if task.step.options.side_effect else "Ignore"
    spec: dict[str, Any] = {
        "backoffLimit": 0,
        "completions": 1,
        "parallelism": 1,
        "ttlSecondsAfterFinished": wishes.keep_seconds,
        "podFailurePolicy": {
            "rules": [{"action": moved, "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
        },
        "template": {"metadata": {"labels": labels}, "spec": _pod(sent, wishes)},
    }
    if task.timeout is not None:
        spec["activeDeadlineSeconds"] = int(task.timeout + wishes.start_seconds) + 1
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels},
        "spec": spec,
    }


def _labels(task: Task, name: str, wishes: Wishes) -> dict[str, str]:
    wanted = {
        "app.kubernetes.io/managed-by": "tidewheel",
        "tidewheel/run": task.context.run_id,
        "tidewheel/step": task.step.name,
        EXECUTION: task.id,
        ATTEMPT: str(task.context.attempt),
        JOB: name,
    }
    if wishes.queue:
        wanted["kueue.x-k8s.io/queue-name"] = wishes.queue
    return {key: label(text) for key, text in wanted.items()}


def label(text: str) -> str:
    """Return a text as the value of a label: itself where that can be, else a digest.

    >>> label("0199-ab"), len(label("two words"))
    ('0199-ab', 32)
    """
    return text if _LABEL.fullmatch(text) else hashlib.sha256(text.encode()).hexdigest()[:32]


def _pod(sent: Sent, wishes: Wishes) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": "step",
        "image": _image(sent.task, wishes),
        "command": [wishes.python, *_PROGRAM, *sent.arguments],
        "env": _environment(sent.task, wishes),
        "resources": _resources(sent.task, wishes),
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "enableServiceLinks": False,
        "automountServiceAccountToken": bool(wishes.service_account),
        "containers": [container],
    }
    if wishes.mounts:
        container["volumeMounts"] = [dict(mount) for mount in wishes.mounts]
    wanted = {
        "volumes": [dict(volume) for volume in wishes.volumes],
        "serviceAccountName": wishes.service_account,
        "nodeSelector": dict(wishes.node_selector),
        "tolerations": [dict(toleration) for toleration in wishes.tolerations],
    }
    return pod | {key: value for key, value in wanted.items() if value}


def _image(task: Task, wishes: Wishes) -> str:
    wanted = task.step.options.isolate
    if wanted is None:
        return wishes.image
    if wanted not in wishes.images:
        raise InvalidInput(
            f"The step {task.step.name} has isolate={wanted!r}, and no image is named for that.",
            f'Build one and name it: images = {{ "{wanted}" = "registry/name:tag" }}; at Kubernetes the image is the '
            "environment.",
        )
    return wishes.images[wanted]


def _environment(task: Task, wishes: Wishes) -> list[dict[str, Any]]:
    plain: list[dict[str, Any]] = [{"name": name, "value": text} for name, text in sorted(wishes.variables.items())]
    for name in task.secrets.names:
        place = wishes.secrets.get(name) or (f"{wishes.secret}/{name}" if wishes.secret else "")
        secret, _, key = place.partition("/")
        if not secret or not key:
            raise NotFound(
                "Kubernetes secret for",
                name,
                wishes.secrets,
                f'{task.step.name} needs it: write secrets = {{ {name} = "secret-name/key" }}.',
            )
        plain.append({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}})
    return plain


def _resources(task: Task, wishes: Wishes) -> dict[str, Any]:
    options = task.step.options
    if options.gpus != int(options.gpus):
        raise InvalidInput(
            f"The step {task.step.name} asks for {options.gpus:g} GPUs, and Kubernetes gives whole ones.",
            "Ask for a whole number, or name a shared kind with gpu_resource in the executor's table.",
        )
    requests: dict[str, str] = {"cpu": f"{round(options.cpus * 1000)}m"}
    limits: dict[str, str] = {}
    if options.memory:
        requests["memory"] = limits["memory"] = str(options.memory)
    if options.gpus:
        requests[wishes.gpu_resource] = limits[wishes.gpu_resource] = str(int(options.gpus))
    return {"requests": requests, **({"limits": limits} if limits else {})}


def finished(job: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the condition that says how a Job ended; None while it goes on."""
    for condition in job.get("status", {}).get("conditions") or ():
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            found: Mapping[str, Any] = condition
            return found
    return None


def stuck(pod: Mapping[str, Any]) -> str:
    """Return why a pod cannot start, "" where it may: a wrong image, a missing secret."""
    for status in pod.get("status", {}).get("containerStatuses") or ():
        waiting = status.get("state", {}).get("waiting") or {}
        if waiting.get("reason") in _STUCK:
            return f"{waiting['reason']}: {waiting.get('message', 'no further word')}"
    return ""


def exit_of(pod: Mapping[str, Any]) -> tuple[int, str] | None:
    """Return the exit code of a pod's container and what Kubernetes calls it; None while it has none."""
    for status in pod.get("status", {}).get("containerStatuses") or ():
        ended = status.get("state", {}).get("terminated")
        if ended:
            return int(ended["exitCode"]), str(ended.get("reason", ""))
    return None


def failure_of(condition: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], task: Task, said: str) -> Failure:
    """Return why a Job that left no manifest failed; `said` is the last line of its log."""
    if condition.get("reason") == "DeadlineExceeded":
        message = f"it ran longer than its timeout of {task.timeout or 0:g} s and was ended by the cluster"
        return Failure(kind="timeout", message=message, mend="Give it more time (@step(timeout=...)) or less to do.")
    code, reason = next((ended for pod in pods if (ended := exit_of(pod))), (None, ""))
    if code == _UNREACHED:
        mend = "Give the pod what it needs for the blobs: blob_url, variables, secrets, a service account, volumes."
        return Failure(kind="unusable", message=f"its pod cannot reach the blobs: {said or 'no word'}", mend=mend)
    if reason == "OOMKilled":
        mend = "Ask for the memory that it needs (@step(memory=...)), or give it less data."
        return Failure(kind="killed", message="its container was killed for want of memory (OOMKilled)", mend=mend)
    if code is not None and code > 128:
        name = signal.Signals(code - 128).name if code - 128 in set(signal.Signals) else f"signal {code - 128}"
        mend = "Out of memory ends a container so: give it less data or more room." if code == 137 else ""
        return Failure(kind="killed", message=f"its container was killed by {name}", mend=mend)
    told = f"its container exited with code {code}" if code is not None else "its pod is gone"
    told += f": {said}" if said else f" ({condition.get('message') or condition.get('reason') or 'no reason given'})"
    return Failure(kind="killed", message=told, mend="kubectl describe job tells more while the Job is kept.")
