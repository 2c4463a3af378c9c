"""Which models a server answers for, when callers may change that: the protocol's model repository extension."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from tidewheel.errors import Forbidden, InvalidInput, StorageUnavailable
from tidewheel.serving.endpoint import Endpoint

READY, UNAVAILABLE, LOADING = "READY", "UNAVAILABLE", "LOADING"
_LOADED, _UNLOADED = ".loaded", ".unloaded"


class IndexRequest(msgspec.Struct, gc=False):
    """The body of an index request; unknown fields are allowed."""

    ready: bool = False  # whether only models that answer are wanted


class Repository:
    """The wishes of callers, a file each in one folder, so that all processes of a server follow them.

    They stay over restarts, until the opposite is wished. `folder` None: callers may wish nothing, and what they wished
    before does not count.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def unloaded(self) -> frozenset[str]:
        """Return the models that were unloaded."""
        return self._named(_UNLOADED)

    def served(self, models: Sequence[str] | None) -> Sequence[str] | None:
        """Return the models that a server was told to serve, with those that were loaded besides; None: all."""
        return None if models is None else tuple(dict.fromkeys((*models, *sorted(self._named(_LOADED)))))

    def load(self, model: str) -> None:
        """Wish that a model is served. Raises Forbidden when wishes are not taken, StorageUnavailable."""
        self._wish(model, _LOADED, _UNLOADED)

    def unload(self, model: str) -> None:
        """Wish that a model is no longer served. Raises Forbidden when wishes are not taken, StorageUnavailable."""
        self._wish(model, _UNLOADED, _LOADED)

    def _named(self, kind: str) -> frozenset[str]:
        if self.folder is None or not self.folder.is_dir():
            return frozenset()
        return frozenset(unquote(each.name.removesuffix(kind)) for each in self.folder.iterdir() if each.suffix == kind)

    def _wish(self, model: str, wanted: str, other: str) -> None:
        if self.folder is None:
            raise Forbidden(
                "This server does not let callers load or unload models.",
                "Start it with: tidewheel serve --repository. Or promote a version: every server follows.",
            )
        # Neither dots nor slashes are left in the name of the file.
        name = quote(model, safe="").replace(".", "%2E")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / f"{name}{wanted}").touch()
            (self.folder / f"{name}{other}").unlink(missing_ok=True)
        except OSError as error:
            raise StorageUnavailable(
                f"{self.folder} cannot be written: {error.strerror}.", "Make it writable."
            ) from error


def wants_ready(body: bytes) -> bool:
    """Return whether an index request asks for models that answer alone."""
    if not body.strip():
        return False
    try:
        return msgspec.json.decode(body, type=IndexRequest).ready
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"The body cannot be read: {error}.", 'Send {"ready": true}, or nothing.') from error


def index(endpoints: Mapping[str, Endpoint], others: Sequence[str], *, ready: bool) -> list[dict[str, Any]]:
    """Return the versions that answer, and the models that do not, with why."""
    found = [entry for endpoint in endpoints.values() for entry in _entries(endpoint)]
    found += [_entry(name, "", UNAVAILABLE, "unloaded") for name in others if name not in endpoints]
    return [entry for entry in found if entry["state"] == READY or not ready]


def _entries(endpoint: Endpoint) -> list[dict[str, Any]]:
    deployed = endpoint.deployed
    if deployed is None:
        state = UNAVAILABLE if endpoint.trouble else LOADING
        return [_entry(endpoint.model, "", state, endpoint.trouble or "not deployed yet")]
    return [
        _entry(endpoint.model, str(arm.version), UNAVAILABLE if arm.trouble else READY, arm.trouble)
        for arm in deployed.arms()
    ]


def _entry(name: str, version: str, state: str, reason: str) -> dict[str, Any]:
    return {"name": name, "version": version, "state": state, "reason": reason}
