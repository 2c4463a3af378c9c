"""Push an image layout to a registry: the few requests of the OCI distribution protocol 1.1 (2024) that it takes."""

from __future__ import annotations

import base64
import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidewheel.errors import InvalidInput, StorageUnavailable
from tidewheel.shipping.image import MANIFEST

_REFERENCE = re.compile(
    r"(?:(?P<scheme>https?)://)?(?P<host>[^/\s]+)/(?P<name>[a-z0-9._/-]+)(?::(?P<tag>[A-Za-z0-9_.-]{1,128}))?"
)
_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What a push did."""

    reference: str  # host/name@sha256:<hex>
    sent: int  # blobs that the registry did not have
    known: int  # blobs that it had


class Registry:
    """One registry, spoken to with basic or token authentication; plain HTTP only where the reference says http://."""

    def __init__(self, host: str, name: str, *, scheme: str = "https", user: str = "", password: str = "") -> None:
        self.name = name
        self._root = f"{scheme}://{host}/v2/{name}"
        self._basic = base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
        self._authorization = f"Basic {self._basic}" if user else ""

    def has(self, digest: str) -> bool:
        """Say whether a blob is there."""
        return self._ask("HEAD", f"{self._root}/blobs/{digest}", missing=True) is not None

    def send(self, digest: str, data: bytes) -> None:
        """Upload a blob."""
        begun = self._ask("POST", f"{self._root}/blobs/uploads/", data=b"")
        place = urllib.parse.urljoin(self._root, begun["location"] if begun else "")
        mark = "&" if "?" in place else "?"
        self._ask(
            "PUT", f"{place}{mark}digest={digest}", data=data, headers={"content-type": "application/octet-stream"}
        )

    def tag(self, tag: str, manifest: bytes) -> None:
        """Upload a manifest under a tag."""
        self._ask("PUT", f"{self._root}/manifests/{tag}", data=manifest, headers={"content-type": MANIFEST})

    def _ask(
        self,
        method: str,
        url: str,
        *,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        missing: bool = False,
    ) -> dict[str, str] | None:
        """Send one request; return the headers of the answer, None for a missing thing where that is expected."""
        for last in (False, True):
            sent = dict(headers or {}) | ({"authorization": self._authorization} if self._authorization else {})
            request = urllib.request.Request(url, data=data, method=method, headers=sent)  # noqa: S310 - scheme was checked
            try:
                with urllib.request.urlopen(request, timeout=_SECONDS) as answer:  # noqa: S310
                    return {name.lower(): value for name, value in answer.headers.items()}
            except urllib.error.HTTPError as error:
                if error.code == 404 and missing:
                    return None
                if error.code != 401 or last or not self._authorize(error.headers.get("www-authenticate", "")):
                    raise _refused(url, error) from error
            except urllib.error.URLError as error:
                raise StorageUnavailable(f"{url} does not answer: {error.reason}.", "Check the address.") from error
        return None

    def _authorize(self, challenge: str) -> bool:
        """Fetch a token, as a registry's challenge asks; say whether there is something new to try."""
        said = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
        if not challenge.lower().startswith("bearer") or "realm" not in said:
            return False
        words = {name: said[name] for name in ("service", "scope") if name in said}
        url = f"{said['realm']}?{urllib.parse.urlencode(words)}"
        headers = {"authorization": f"Basic {self._basic}"} if self._basic else {}
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_SECONDS) as answer:  # noqa: S310
            token: dict[str, Any] = json.load(answer)
        self._authorization = f"Bearer {token.get('token') or token.get('access_token')}"
        return True


def push_image(folder: Path, reference: str, *, user: str = "", password: str = "") -> Pushed:
    """Push the one image of a layout to `host/name:tag` (or `http://host:port/name:tag` for a registry without TLS).

    Blobs that are there already are not sent again. Raises InvalidInput for a reference that is none, or for what the
    registry refuses; StorageUnavailable when it does not answer.
    """
    found = _REFERENCE.fullmatch(reference)
    if found is None:
        raise InvalidInput(f"{reference!r} is not an image reference.", "Write host/name:tag, in lower case.")
    registry = Registry(found["host"], found["name"], scheme=found["scheme"] or "https", user=user, password=password)
    digest = json.loads((folder / "index.json").read_text("utf-8"))["manifests"][0]["digest"]
    manifest = _blob(folder, digest)
    content = json.loads(manifest)
    sent = known = 0
    for entry in (*content["layers"], content["config"]):
        if registry.has(entry["digest"]):
            known += 1
        else:
            registry.send(entry["digest"], _blob(folder, entry["digest"]))
            sent += 1
    registry.tag(found["tag"] or "latest", manifest)
    return Pushed(reference=f"{found['host']}/{found['name']}@{digest}", sent=sent, known=known)


def _blob(folder: Path, digest: str) -> bytes:
    return (folder / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()


def _refused(url: str, error: urllib.error.HTTPError) -> InvalidInput:
    said = error.read(300).decode("utf-8", "replace")
    mend = "Give --user and a password that may push." if error.code in (401, 403) else "Look at the registry's log."
    return InvalidInput(f"{url} answered {error.code}: {said.strip() or error.reason}.", mend)
