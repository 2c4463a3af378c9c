"""Where a Kubernetes cluster is and how to speak to it: a kubeconfig file, or the pod's own service account."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidewheel.errors import InvalidInput, MissingExtra, NotFound

_POD = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_EXEC_SECONDS = 60  # within which a program has to give a token


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A way to a cluster's API."""

    server: str  # URL
    namespace: str  # where Jobs are made unless the options say so
    tls: ssl.SSLContext | None  # None for plain HTTP
    user: Mapping[str, Any]  # how to prove who asks, as kubeconfig files say it
    folder: Path  # what relative paths in it are relative to

    def headers(self) -> dict[str, str]:
        """Return what proves who asks; read anew for each request, because tokens are renewed.

        Raises InvalidInput when the program that should give a token does not.
        """
        user = self.user
        token = str(user.get("token", ""))
        if user.get("tokenFile"):
            token = (self.folder / str(user["tokenFile"])).read_text().strip()
        if not token and user.get("exec"):
            token = _executed(user["exec"])
        if not token and user.get("username"):
            pair = base64.b64encode(f"{user['username']}:{user.get('password', '')}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        return {"Authorization": f"Bearer {token}"} if token else {}


def find_access(kubeconfig: str = "", context: str = "") -> Access:
    """Return the way to the cluster: `kubeconfig`, $KUBECONFIG, ~/.kube/config, else the pod's own service account.

    Raises NotFound without any of them or for an unknown context, InvalidInput for a file that cannot be read,
    MissingExtra where there is no YAML reader.
    """
    named = kubeconfig or os.environ.get("KUBECONFIG", "").split(os.pathsep)[0]
    file = Path(named).expanduser() if named else Path.home() / ".kube" / "config"
    if file.is_file():
        return _from_file(file, context)
    host = os.environ.get("KUBERNETES_SERVICE_HOST")
    if not kubeconfig and host:
        port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
        return Access(
            server=f"https://{host}:{port}",
            namespace=(_POD / "namespace").read_text().strip(),
            tls=ssl.create_default_context(cafile=str(_POD / "ca.crt")),
            user={"tokenFile": str(_POD / "token")},
            folder=_POD,
        )
    raise NotFound(
        "kubeconfig file", str(file), mend="Set kubeconfig in the executor's table or the variable KUBECONFIG."
    )


def _from_file(file: Path, context: str) -> Access:
    try:
        import yaml
    except ImportError as error:
        raise MissingExtra("pyyaml", "kubernetes") from error
    try:
        config = yaml.safe_load(file.read_text("utf-8"))
        chosen = context or config["current-context"]
        place = _entry(config, "contexts", "context", chosen)
        cluster = _entry(config, "clusters", "cluster", place["cluster"])
        user = _entry(config, "users", "user", place["user"]) if place.get("user") else {}
        return Access(
            server=str(cluster["server"]).rstrip("/"),
            namespace=str(place.get("namespace") or "default"),
            tls=_tls(cluster, user, file.parent) if str(cluster["server"]).startswith("https") else None,
            user=user,
            folder=file.parent,
        )
    except NotFound:
        raise
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise InvalidInput(
            f"{file} cannot be used as a kubeconfig: {type(error).__name__}: {error}.",
            "kubectl config view shows what it holds; name another one with kubeconfig in the executor's table.",
        ) from error


def _entry(config: Mapping[str, Any], group: str, kind: str, name: str) -> Mapping[str, Any]:
    known = {str(item["name"]): item.get(kind) or {} for item in config.get(group) or ()}
    if name not in known:
        raise NotFound(f"{kind} in the kubeconfig", name, known)
    found: Mapping[str, Any] = known[name]
    return found


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], folder: Path) -> ssl.SSLContext:
    given = cluster.get("certificate-authority-data")
    file = cluster.get("certificate-authority")
    tls = ssl.create_default_context(
        cafile=str(folder / str(file)) if file and not given else None,
        cadata=base64.b64decode(given).decode() if given else None,
    )
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    if user.get("client-certificate-data") and user.get("client-key-data"):
        with tempfile.TemporaryDirectory() as private:  # OpenSSL reads keys from files alone
            certificate, key = Path(private, "certificate"), Path(private, "key")
            certificate.write_bytes(base64.b64decode(user["client-certificate-data"]))
            key.write_bytes(base64.b64decode(user["client-key-data"]))
            tls.load_cert_chain(certificate, key)
    elif user.get("client-certificate") and user.get("client-key"):
        tls.load_cert_chain(folder / str(user["client-certificate"]), folder / str(user["client-key"]))
    return tls


def _executed(program: Mapping[str, Any]) -> str:
    """Return the token that a program gives, as clouds have them (client.authentication.k8s.io)."""
    version = str(program.get("apiVersion", "client.authentication.k8s.io/v1"))
    wish = {"apiVersion": version, "kind": "ExecCredential", "spec": {"interactive": False}}
    environment = {item["name"]: item["value"] for item in program.get("env") or ()}
    try:
        said = subprocess.run(  # noqa: S603 - the user's own kubeconfig names it
            [str(program["command"]), *map(str, program.get("args") or ())],
            env={**os.environ, **environment, "KUBERNETES_EXEC_INFO": json.dumps(wish)},
            capture_output=True,
            timeout=_EXEC_SECONDS,
            check=True,
        ).stdout
        return str(json.loads(said)["status"]["token"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{program.get('command')} gave no token for the cluster: {type(error).__name__}.",
            "Log in with it by hand (kubectl get jobs shows whether that works).",
        ) from error
