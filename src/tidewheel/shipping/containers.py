"""Text for those who have a container engine or a cluster: Dockerfile, Kubernetes, KServe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tidewheel.errors import InvalidInput
from tidewheel.shipping.payload import Payload, write_folder

PORT = 8080
COMMAND = ("tidewheel", "serve", "--bundle", "/model", "--host", "0.0.0.0", "--port", str(PORT))  # noqa: S104
_PROBE = {"httpGet": {"path": "/v2/health/ready", "port": PORT}, "periodSeconds": 5}


def dockerfile(payload: Payload, *, base: str = "python:3.11-slim") -> str:
    """Return a Dockerfile for a folder that holds the payload under `model/`."""
    from importlib.metadata import version

    python = payload.manifest.lock.python
    return "\n".join(
        [
            f"# {payload.name}:{payload.version} {payload.digest}, trained on Python {python}",
            f"FROM {base}",
            f"RUN pip install --no-cache-dir tidewheel=={version('tidewheel')} {' '.join(pins(payload))}".rstrip(),
            "RUN useradd --create-home --home-dir /var/lib/tidewheel tidewheel",
            "COPY model /model",
            "USER tidewheel",
            "WORKDIR /var/lib/tidewheel",
            "# To be run with -e TIDEWHEEL_API_KEY, which callers then send, or behind a proxy with",
            "# -e TIDEWHEEL_ANONYMOUS=true; without either it refuses to start.",
            "ENV TIDEWHEEL_PUBLIC=true",
            f"EXPOSE {PORT}",
            f"CMD {json.dumps(list(COMMAND))}",
            "",
        ]
    )


def pins(payload: Payload) -> list[str]:
    """Return the locked versions of what scores the model."""
    packages = payload.manifest.lock.packages
    wanted = ("onnxruntime", "numpy", "scikit-learn", "skops")
    return [f"{name}=={packages[name]}" for name in wanted if name in packages]


def write_dockerfile(payload: Payload, out: Path, *, base: str = "python:3.11-slim") -> Path:
    """Write Dockerfile and model into a new or empty folder, ready for a build, and return the folder."""
    write_folder(payload, out / "model")
    (out / "Dockerfile").write_text(dockerfile(payload, base=base), "utf-8")
    return out


def deployment(payload: Payload, image: str, *, replicas: int = 1) -> Mapping[str, Any]:
    """Return a Kubernetes List of a Deployment and its Service for an image that carries the model."""
    if replicas < 1:
        raise InvalidInput(f"replicas={replicas} would serve nothing.", "Ask for 1 or more.")
    labels = {"app.kubernetes.io/name": payload.distribution, "app.kubernetes.io/managed-by": "tidewheel"}
    container = {
        "name": "model",
        "image": image,
        "args": list(COMMAND),
        "env": _environment(payload),
        "ports": [{"name": "http", "containerPort": PORT}],
        "readinessProbe": _PROBE,
        "livenessProbe": {"httpGet": {"path": "/v2/health/live", "port": PORT}, "periodSeconds": 10},
        "resources": {"requests": {"cpu": "250m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "runAsNonRoot": True, "runAsUser": 1000},
    }
    pod = {
        "metadata": {"labels": labels, "annotations": _annotations(payload)},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 30},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": pod}
    ports = [{"name": "http", "port": 80, "targetPort": "http"}]
    return _list(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _metadata(payload, labels), "spec": spec},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _metadata(payload, labels),
            "spec": {"selector": labels, "ports": ports},
        },
    )


def inference_service(payload: Payload, image: str) -> Mapping[str, Any]:
    """Return a KServe InferenceService whose predictor is the image, spoken to by the Open Inference Protocol v2."""
    container = {
        "name": "kserve-container",
        "image": image,
        "args": list(COMMAND),
        "env": _environment(payload),
        "ports": [{"name": "http1", "containerPort": PORT, "protocol": "TCP"}],
        "readinessProbe": _PROBE,
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": payload.distribution, "annotations": _annotations(payload)},
        "spec": {"predictor": {"containers": [container]}},
    }


def write_manifest(content: Mapping[str, Any], place: Path) -> Path:
    """Write a manifest as JSON, which kubectl takes like YAML, and return its path."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    return place


def _environment(payload: Payload) -> list[Mapping[str, Any]]:
    """Let other machines in; the API key that they show comes from a Secret, never from the manifest."""
    secret = {"name": f"{payload.distribution}-key", "key": "api-key"}
    return [
        {"name": "TIDEWHEEL_PUBLIC", "value": "true"},
        {"name": "TIDEWHEEL_API_KEY", "valueFrom": {"secretKeyRef": secret}},
    ]


def _metadata(payload: Payload, labels: Mapping[str, str]) -> dict[str, Any]:
    return {"name": payload.distribution, "labels": labels, "annotations": _annotations(payload)}


def _annotations(payload: Payload) -> dict[str, str]:
    return {"tidewheel.dev/model": f"{payload.name}:{payload.version}", "tidewheel.dev/bundle": payload.digest}


def _list(*items: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"apiVersion": "v1", "kind": "List", "items": list(items)}
