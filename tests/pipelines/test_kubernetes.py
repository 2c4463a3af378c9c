"""Steps as Kubernetes Jobs, on an API of the tests' own that executes them as processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from tests.pipelines.fake_cluster import FakeCluster
from tests.pipelines.far import far_task, waited

from tidewheel.blobs.folder import FolderBlobs
from tidewheel.errors import InvalidInput, MissingExtra, NotFound
from tidewheel.pipelines.executors.dispatch import Sent
from tidewheel.pipelines.executors.jobs import job_of, wishes_of
from tidewheel.pipelines.executors.kubeconfig import find_access
from tidewheel.pipelines.executors.kubernetes import KubernetesExecutor
from tidewheel.pipelines.executors.seam import Beat, Executor, Outcome, Site, Task
from tidewheel.pipelines.secrets import Secrets
from tidewheel.pipelines.step import Step, step
from tidewheel.pipelines.stored import Shelf
from tidewheel.pipelines.tree import decode
from tidewheel.testing.executors import OtherProcessContract

PATIENCE = 120.0


@step
def twice(x: int) -> int:
    """Double."""
    return 2 * x


@step
def waits(marker: str) -> int:
    """Wait for a file."""
    with Path(marker, "begun").open("a") as file:
        file.write(f"{os.getpid()}\n")
    while not Path(marker, "go").exists():
        time.sleep(0.05)
    return 7


@step(secrets=("TIDE_KEY",))
def hushed() -> int:
    """Read a secret."""
    print("it is", os.environ["TIDE_KEY"])
    return len(os.environ["TIDE_KEY"])


@step
def leaves() -> int:
    """End the container without a word to anybody."""
    print("last words", flush=True)
    os._exit(9)


@step(cpus=2.5, memory="2GiB", gpus=1, timeout="10m", variables={"A": "b"}, secrets=("TIDE_KEY",))
def needy() -> int:
    """Ask for all there is."""
    return 1


@step(side_effect=True)
def effect() -> int:
    """Change the world."""
    return 1


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeCluster]:
    """A cluster for the conformance suite, too busy for each seventh request."""
    cluster = FakeCluster(tmp_path_factory.mktemp("cluster"))
    cluster.busy_every = 7
    yield cluster
    cluster.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[FakeCluster]:
    """A cluster of one test."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    made = FakeCluster(folder)
    yield made
    made.close()


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(blobs=FolderBlobs(tmp_path / "blobs"), files=tmp_path / "files")


def jobs_executor(cluster: FakeCluster, shelf: Shelf, **options: Any) -> KubernetesExecutor:
    wanted = {"image": "tides:1", "python": sys.executable, "kubeconfig": str(cluster.kubeconfig())}
    return KubernetesExecutor(Site(shelf=shelf, attempts=Path("unused"), options={**wanted, **options}))


@pytest.fixture
def executor(cluster: FakeCluster, shelf: Shelf) -> Iterator[KubernetesExecutor]:
    opened = jobs_executor(cluster, shelf, look_seconds=0.2)
    yield opened
    opened.close()


def outcomes(executor: Executor, tasks: list[Task], *, expect: int = 0) -> dict[str, Outcome]:
    """Submit tasks and return what became of them and of others."""
    for task in tasks:
        executor.submit(task)
    found: dict[str, Outcome] = {}
    deadline = time.monotonic() + PATIENCE
    while len(found) < (expect or len(tasks)) and time.monotonic() < deadline:
        for message in executor.poll(1.0):
            if not isinstance(message, Beat):
                assert message.id not in found
                found[message.id] = message
    return found


def value(outcome: Outcome, shelf: Shelf) -> Any:
    assert outcome.failure is None, outcome.failure
    return decode(outcome.outputs[0], shelf)


def failure(outcome: Outcome) -> tuple[str, str, str]:
    assert outcome.failure is not None
    return outcome.failure.kind, outcome.failure.message, outcome.failure.mend


def sent(task: Task) -> Sent:
    return Sent(task=task, url="s3://b/p", order="sha256:" + "0" * 64, manifest="m-1.json", bundle="", inputs=())


@pytest.mark.slow
class TestKubernetesExecutor(OtherProcessContract):
    """Jobs keep the promises of the seam, on a cluster that is too busy now and then."""

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, shared: FakeCluster) -> Callable[[Shelf], Executor]:
        shared.secrets = {"tides": {"HARBOUR_KEY": "a-key-that-nobody-sees"}}
        return lambda shelf: jobs_executor(shared, shelf, secret="tides")


FULL: dict[str, Any] = {
    "image": "tides:1",
    "secret": "tide-secrets",
    "service_account": "tides",
    "node_selector": {"pool": "gpu"},
    "tolerations": [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}],
    "queue": "nightly",
    "volumes": [{"name": "blobs", "persistentVolumeClaim": {"claimName": "blobs"}}],
    "mounts": [{"name": "blobs", "mountPath": "/blobs"}],
    "start_seconds": 60,
}


@pytest.mark.parametrize("options", [{"image": "tides:1", "secrets": {"TIDE_KEY": "tide-secrets/key"}}, FULL])
@pytest.mark.parametrize("work", [twice, needy, effect])
@pytest.mark.parametrize("version", ["1.27", "1.33", "1.37"])
def test_manifests_fit_the_published_schemas(
    options: dict[str, Any], work: Step[..., Any], version: str, tmp_path: Path
) -> None:
    secrets = Secrets(dict.fromkeys(work.options.secrets, "value"))
    job = job_of(sent(far_task(work, {}, tmp_path, secrets=secrets)), wishes_of(options, {"PLACE": "here"}))
    kubernetes_validate.validate(job, version, strict=True)
    broken = {**job, "spec": {**job["spec"], "backofLimit": 0}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, version, strict=True)


def test_a_job_asks_for_what_the_step_needs_and_names_secrets_only(tmp_path: Path) -> None:
    task = far_task(needy, {}, tmp_path, secrets=Secrets({"TIDE_KEY": "hush"}), key="0199-ab", attempt=3)
    job = job_of(sent(task), wishes_of(FULL, {"PLACE": "here"}))
    pod = job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert job["metadata"]["name"] == "tidewheel-0199-ab-3"
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "nightly"
    assert job["metadata"]["labels"]["tidewheel/attempt"] == "3"
    assert job["spec"]["activeDeadlineSeconds"] == 600 + 60 + 1
    assert (job["spec"]["backoffLimit"], pod["restartPolicy"]) == (0, "Never")
    assert container["resources"] == {
        "requests": {"cpu": "2500m", "memory": str(2**31), "nvidia.com/gpu": "1"},
        "limits": {"memory": str(2**31), "nvidia.com/gpu": "1"},
    }
    assert container["env"] == [
        {"name": "PLACE", "value": "here"},
        {"name": "TIDE_KEY", "valueFrom": {"secretKeyRef": {"name": "tide-secrets", "key": "TIDE_KEY"}}},
    ]
    assert "hush" not in str(job)
    rules = job["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["action"] == "Ignore"
    moved = job_of(sent(far_task(effect, {}, tmp_path)), wishes_of(FULL, {}))
    assert moved["spec"]["podFailurePolicy"]["rules"][0]["action"] == "FailJob"


def test_what_a_job_cannot_be_made_of_is_told(tmp_path: Path) -> None:
    @step(gpus=0.5)
    def half() -> int:
        return 1

    @step(isolate="train.lock")
    def alone() -> int:
        return 1

    with pytest.raises(InvalidInput, match=r"asks for 0\.5 GPUs, and Kubernetes gives whole ones"):
        job_of(sent(far_task(half, {}, tmp_path)), wishes_of(FULL, {}))
    with pytest.raises(InvalidInput, match=r"isolate='train\.lock', and no image is named for that.*\n.*images ="):
        job_of(sent(far_task(alone, {}, tmp_path)), wishes_of(FULL, {}))
    named = wishes_of({**FULL, "images": {"train.lock": "train:7"}}, {})
    job = job_of(sent(far_task(alone, {}, tmp_path)), named)
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == "train:7"
    task = far_task(needy, {}, tmp_path, secrets=Secrets({"TIDE_KEY": "x"}))
    with pytest.raises(NotFound, match=r"(?s)TIDE_KEY.*secrets = \{ TIDE_KEY ="):
        job_of(sent(task), wishes_of({"image": "tides:1"}, {}))
    with pytest.raises(InvalidInput, match="has no image"):
        wishes_of({}, {})
    with pytest.raises(InvalidInput, match="tolerations = 'gpu'"):
        wishes_of({**FULL, "tolerations": "gpu"}, {})


@pytest.mark.slow
def test_a_busy_cluster_makes_each_job_once(cluster: FakeCluster, shelf: Shelf, tmp_path: Path) -> None:
    cluster.busy_every = 3
    executor = jobs_executor(cluster, shelf)
    try:
        tasks = [far_task(twice, {"x": number}, tmp_path) for number in range(4)]
        found = outcomes(executor, tasks)
    finally:
        executor.close()
    assert [value(found[task.id], shelf) for task in tasks] == [0, 2, 4, 6]
    assert len({job["metadata"]["name"] for job in cluster.created}) == len(cluster.created) == 4
    assert cluster.refusals >= 3


@pytest.mark.slow
def test_a_watch_that_was_forgotten_begins_anew(
    cluster: FakeCluster, executor: KubernetesExecutor, shelf: Shelf, tmp_path: Path
) -> None:
    task = far_task(waits, {"marker": str(tmp_path)}, tmp_path)
    executor.submit(task)
    assert waited((tmp_path / "begun").exists)
    assert executor.poll(0.1) == []
    before = cluster.lists
    cluster.forget()
    (tmp_path / "go").touch()
    assert value(outcomes(executor, [], expect=1)[task.id], shelf) == 7
    assert cluster.lists > before


@pytest.mark.slow
def test_the_same_job_again_is_ours_and_a_running_one_is_followed(
    cluster: FakeCluster, executor: KubernetesExecutor, shelf: Shelf, tmp_path: Path
) -> None:
    first = far_task(waits, {"marker": str(tmp_path)}, tmp_path, key="0199-ab")
    executor.submit(first)
    assert waited((tmp_path / "begun").exists)
    heir = jobs_executor(cluster, shelf)  # another controller: the first one is as good as dead
    try:
        assert heir.adopt(first.id) is None
        heir.submit(first)  # the same try: 409
        heir.cancel("another")
        (tmp_path / "go").touch()
        assert value(outcomes(heir, [], expect=1)[first.id], shelf) == 7
        heir.submit(first)  # it is there, and has ended
        assert value(outcomes(heir, [], expect=1)[first.id], shelf) == 7
    finally:
        heir.close()
    assert [job["metadata"]["name"] for job in cluster.created] == ["tidewheel-0199-ab-1"]


@pytest.mark.slow
def test_a_later_try_follows_the_job_that_goes_on(cluster: FakeCluster, shelf: Shelf, tmp_path: Path) -> None:
    dead, heir = jobs_executor(cluster, shelf), jobs_executor(cluster, shelf)
    dead.submit(far_task(waits, {"marker": str(tmp_path)}, tmp_path, key="0199-ab"))
    try:
        assert waited((tmp_path / "begun").exists)
        heir.submit(far_task(waits, {"marker": str(tmp_path)}, tmp_path, key="0199-ab", attempt=2))
        (tmp_path / "go").touch()
        assert value(outcomes(heir, [], expect=1)["0199-ab"], shelf) == 7
    finally:
        heir.close()
        dead.close()
    assert len(cluster.created) == 1
    assert len((tmp_path / "begun").read_text().splitlines()) == 1


DRIVER = """
import sys, time
from pathlib import Path
from tests.pipelines.far import far_task
from tests.pipelines.test_kubernetes import twice, waits
from tidewheel.blobs.folder import FolderBlobs
from tidewheel.pipelines.executors.kubernetes import KubernetesExecutor
from tidewheel.pipelines.executors.seam import Site
from tidewheel.pipelines.stored import Shelf
folder = Path(sys.argv[1])
shelf = Shelf(blobs=FolderBlobs(folder / "blobs"), files=folder / "files")
options = {"image": "tides:1", "python": sys.executable, "kubeconfig": sys.argv[2]}
executor = KubernetesExecutor(Site(shelf=shelf, attempts=folder, options=options))
executor.submit(far_task(twice, {"x": 5}, folder, key="quick"))
executor.submit(far_task(waits, {"marker": str(folder)}, folder, key="slow"))
time.sleep(600)
"""


@pytest.mark.slow
def test_a_killed_controller_leaves_what_was_finished_and_what_goes_on(
    cluster: FakeCluster, executor: KubernetesExecutor, shelf: Shelf, tmp_path: Path
) -> None:
    program = [sys.executable, "-c", DRIVER, str(tmp_path), str(cluster.kubeconfig())]
    driver = subprocess.Popen(program, cwd=Path(__file__).parents[2])
    try:
        assert waited(lambda: (tmp_path / "blobs/attempts/quick-1.json").exists() and (tmp_path / "begun").exists())
    finally:
        driver.kill()
        driver.wait()
    adopted = executor.adopt("quick")
    assert adopted is not None
    assert value(adopted, shelf) == 10
    assert executor.adopt("slow") is None
    (tmp_path / "go").touch()
    again = far_task(waits, {"marker": str(tmp_path)}, tmp_path, key="slow", attempt=2)
    assert value(outcomes(executor, [again])["slow"], shelf) == 7


@pytest.mark.slow
def test_secrets_come_from_the_cluster(cluster: FakeCluster, shelf: Shelf, tmp_path: Path) -> None:
    word = "moonlit-harbour-9"
    cluster.secrets = {"tides": {"key": word}}
    executor = jobs_executor(cluster, shelf, secrets={"TIDE_KEY": "tides/key"})
    task = far_task(hushed, {}, tmp_path, secrets=Secrets({"TIDE_KEY": "another value, of the controller"}))
    try:
        assert value(outcomes(executor, [task])[task.id], shelf) == len(word)
    finally:
        executor.close()
    assert task.log.read_text() == "it is ***\n"
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not [data for data in kept if word.encode() in data]


@pytest.mark.slow
def test_pods_that_cannot_start_are_told_and_removed(cluster: FakeCluster, shelf: Shelf, tmp_path: Path) -> None:
    cluster.missing_images = {"tides:1"}
    executor = jobs_executor(cluster, shelf, secrets={"TIDE_KEY": "tides/key"}, look_seconds=0.1)
    try:
        task = far_task(twice, {"x": 1}, tmp_path)
        kind, message, mend = failure(outcomes(executor, [task])[task.id])
        assert (kind, "ImagePullBackOff" in message, "image" in mend) == ("unusable", True, True)
        cluster.missing_images.clear()
        secretive = far_task(hushed, {}, tmp_path, secrets=Secrets({"TIDE_KEY": "x"}))
        kind, message, _ = failure(outcomes(executor, [secretive])[secretive.id])
        assert (kind, "CreateContainerConfigError" in message) == ("unusable", True)
    finally:
        executor.close()
    assert cluster.jobs == {}


@pytest.mark.slow
def test_a_container_that_ends_without_an_answer_is_told_with_its_last_words(
    executor: KubernetesExecutor, tmp_path: Path
) -> None:
    task = far_task(leaves, {}, tmp_path)
    kind, message, _ = failure(outcomes(executor, [task])[task.id])
    assert (kind, message.startswith("its container exited with code 9")) == ("killed", True)


@pytest.mark.slow
def test_a_pod_that_cannot_reach_the_blobs_says_so(cluster: FakeCluster, shelf: Shelf, tmp_path: Path) -> None:
    executor = jobs_executor(cluster, shelf, blob_url=str(tmp_path / "nowhere"))
    task = far_task(twice, {"x": 1}, tmp_path)
    try:
        kind, message, mend = failure(outcomes(executor, [task])[task.id])
    finally:
        executor.close()
    assert (kind, "its pod cannot reach the blobs" in message, "blob_url" in mend) == ("unusable", True, True)


@pytest.mark.slow
def test_a_job_deleted_by_somebody_else_is_a_failure(
    cluster: FakeCluster, executor: KubernetesExecutor, tmp_path: Path
) -> None:
    task = far_task(waits, {"marker": str(tmp_path)}, tmp_path)
    executor.submit(task)
    assert waited((tmp_path / "begun").exists)
    cluster.remove(next(iter(cluster.jobs)))
    kind, message, _ = failure(outcomes(executor, [], expect=1)[task.id])
    assert (kind, "it was deleted" in message) == ("killed", True)


@pytest.mark.slow
def test_cancelling_deletes_the_job_and_ends_its_process(
    cluster: FakeCluster, executor: KubernetesExecutor, tmp_path: Path
) -> None:
    task = far_task(waits, {"marker": str(tmp_path)}, tmp_path)
    executor.submit(task)
    assert waited((tmp_path / "begun").exists)
    executor.cancel(task.id)
    assert cluster.jobs == {}
    pid = int((tmp_path / "begun").read_text())
    assert waited(lambda: not Path(f"/proc/{pid}").exists())
    assert executor.poll(0.1) == []


@pytest.mark.parametrize(
    ("forbidden", "account", "words"),
    [
        ("POST jobs", {}, r"refuses POST .*\(403\): jobs is forbidden"),
        ("GET jobs", {}, r"refuses GET .*\(403\)"),
        ("", {"token": "wrong"}, r"\(401\): Unauthorized"),
        ("", {"namespace": "nowhere"}, r'namespaces "nowhere" not found'),
    ],
)
def test_what_the_cluster_refuses_is_told_with_the_role_that_is_needed(
    cluster: FakeCluster, tmp_path: Path, forbidden: str, account: dict[str, str], words: str
) -> None:
    shelf = Shelf(blobs=FolderBlobs(tmp_path / "blobs"), files=tmp_path / "files")
    cluster.forbidden = {forbidden}
    options = {"image": "tides:1", "python": sys.executable, "kubeconfig": str(cluster.kubeconfig(**account))}
    executor = KubernetesExecutor(Site(shelf=shelf, attempts=tmp_path, options=options))
    task = far_task(twice, {"x": 1}, tmp_path)
    try:
        kind, message, mend = failure(outcomes(executor, [task])[task.id])
    finally:
        cluster.forbidden = set()
        executor.close()
    assert kind == "unusable"
    assert re.search(words, message), message
    assert "namespace" in mend


def test_a_cluster_out_of_reach_is_unavailable(cluster: FakeCluster, shelf: Shelf, tmp_path: Path) -> None:
    executor = jobs_executor(cluster, shelf)
    cluster.close()
    started = threading.active_count()
    task = far_task(twice, {"x": 1}, tmp_path)
    kind, message, mend = failure(outcomes(executor, [task])[task.id])
    executor.close()
    assert (kind, "does not answer" in message, "resumed" in mend) == ("storage", True, True)
    assert threading.active_count() <= started


EXEC_CONFIG = r"""
current-context: e
contexts: [{name: e, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}]
users:
  - name: u
    user:
      exec:
        command: sh
        args: ["-c", 'echo "{\"status\": {\"token\": \"$WORD\"}}"']
        env: [{name: WORD, value: hush}]
"""


def test_kubeconfigs_are_read_as_kubectl_does(
    cluster: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cluster.kubeconfig()
    monkeypatch.setenv("KUBECONFIG", str(path))
    access = find_access()
    assert (access.server, access.namespace) == (cluster.url, "tides")
    assert access.headers() == {"Authorization": "Bearer tide-token"}
    with pytest.raises(NotFound, match="context in the kubeconfig named 'tset'"):
        find_access(context="tset")
    with pytest.raises(NotFound, match="kubeconfig file"):
        find_access(str(tmp_path / "none"))
    path.write_text("clusters: [")
    with pytest.raises(InvalidInput, match=r"cannot be used as a kubeconfig: ParserError"):
        find_access()
    path.write_text(EXEC_CONFIG)
    assert find_access().headers() == {"Authorization": "Bearer hush"}
    path.write_text(path.read_text().replace("command: sh", "command: no-such-program"))
    with pytest.raises(InvalidInput, match="no-such-program gave no token"):
        find_access().headers()


def test_without_a_yaml_reader_the_extra_is_named(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    path = cluster.kubeconfig()
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtra, match=r"tidewheel\[kubernetes\]"):
        find_access(str(path))


PIPELINE = """
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.step import step
from heights import HEIGHT

@step(on="kubernetes")
def raised(x: int) -> int:
    return x + HEIGHT

@step
def checked(x: int) -> int:
    if x != 11:
        raise ValueError(x)
    return x

@pipeline
def tide(x: int) -> int:
    return checked(raised(x))
"""


@pytest.mark.slow
def test_a_run_sends_one_of_its_steps_to_the_cluster(cluster: FakeCluster, tmp_path: Path) -> None:
    (tmp_path / "tides_far.py").write_text(PIPELINE)
    (tmp_path / "heights.py").write_text("HEIGHT = 7\n")
    (tmp_path / "tidewheel.toml").write_text(
        f'[dev.executors.kubernetes]\nimage = "tides:1"\npython = "{sys.executable}"\n'
        f'kubeconfig = "{cluster.kubeconfig()}"\n'
    )
    program = [sys.executable, "-m", "tidewheel", "run", "tides_far.py:tide", "--param", "x=4"]
    for said in ("committed  raised", "cached  raised"):
        done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert said in done.stderr
        assert len(cluster.created) == 1  # the digest that the worker found is the one that the run looks for
