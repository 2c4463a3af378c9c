"""One frozen Settings, read from `tidewheel.toml` and `TIDEWHEEL_*` variables when asked for."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tidewheel.errors import InvalidInput, NotFound

FILE_NAME = "tidewheel.toml"
DEFAULT_ENVIRONMENT = "dev"
_SHORTEST_LEASE = 2.0  # seconds; a busy machine may need one to renew it


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where things are kept and where servers listen; one table of `tidewheel.toml` per environment."""

    home: Path  # folder for the embedded database, blobs, prediction log, locks and run logs
    environment: str = DEFAULT_ENVIRONMENT  # name of the table these came from
    database_url: str = ""  # sqlite:///... or postgresql://...; empty: <home>/tidewheel.db
    blob_url: str = ""  # folder, s3://bucket/prefix or any fsspec URL; empty: <home>/blobs
    online_url: str = ""  # answers computed ahead: redis://host:6379/0 or sqlite:///file; empty: <home>/online.db
    executor: str = "inline"  # where steps run unless they say otherwise: inline, threads, process, isolated, ray ...
    executors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # tables [<environment>.executors.<name>]
    secrets: str = ""  # folder with a file for each secret, as Kubernetes and Docker mount them; "": variables alone
    lease_seconds: float = 60.0  # after so long a run is taken over whose process, on another machine, says nothing
    storage_patience: float = 120.0  # seconds that a run waits for a full disk or a database that does not answer
    keep_days: float = 30.0  # days for which `gc` keeps runs and cache entries
    keep_runs: int = 20  # newest runs of each pipeline that `gc` keeps however old they are
    approvers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # people by group, for approve(by=...)
    openlineage: str = ""  # where run events go: http(s)://..., file:///... or console; empty: nowhere
    openlineage_key: str = ""  # name of the secret that is sent to it as the API key; empty: none
    webhook: str = ""  # http(s) address that is told what runs do, in plain JSON; empty: none
    webhook_secret: str = ""  # name of the secret that signs what is sent to it; empty: unsigned
    serve_host: str = "127.0.0.1"  # address of the prediction server
    serve_port: int = 8600  # TCP port of the prediction server
    serve_grpc_port: int = 0  # TCP port on which the prediction server speaks gRPC as well (extra grpc); 0: none
    serve_front: str = "uvicorn"  # what speaks HTTP in the prediction server: uvicorn, or fast for half its CPU
    serve_workers: str = "1"  # processes of the prediction server; auto: as many as there are cores
    serve_waiting: int = 2_000  # requests that may wait in one worker before others are refused with 429
    serve_budget_ms: float = 1_000.0  # milliseconds of predicted work that may wait in one worker
    serve_timeout: float = 30.0  # seconds after which a scoring call that does not return ends its worker
    serve_head_seconds: float = 15.0  # within which a caller must have sent a request's headers
    serve_body_seconds: float = 30.0  # within which it must have sent the body
    serve_idle_seconds: float = 75.0  # after which a connection without a request is closed
    serve_poll_seconds: float = 0.25  # between two looks of a worker at the traffic table
    serve_drain_seconds: float = 10.0  # for which a server that stops waits for what is under way
    serve_versions: str = "deployed"  # which versions a caller may ask for by number: deployed, or any
    serve_memory: str = "500MB"  # of versions that are loaded because somebody asked for them, in each worker
    serve_origins: tuple[str, ...] = ()  # web origins whose pages may ask, such as https://shop.example; *: all
    serve_tls_cert: str = ""  # file with the certificate chain (PEM) of the prediction server; empty: plain HTTP
    serve_tls_key: str = ""  # file with its private key (PEM)
    public: bool = False  # whether servers may listen on other addresses than this machine's own
    anonymous: bool = False  # whether predictions need no API key, because a proxy in front asks for credentials
    access_log: str = ""  # where a line per request goes: stderr or a file; empty: nowhere
    otel: str = ""  # OpenTelemetry collector that is sent a span per request, http(s)://host:4318; empty: none
    log: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # tables [<environment>.log.<model>], "*": all
    web_host: str = "127.0.0.1"  # address of the page
    web_port: int = 8601  # TCP port of the page
    tick_seconds: float = 0.25  # pause between two looks of the conductor, in seconds; an idle look costs 1-2 ms of CPU

    @property
    def database(self) -> str:
        """Database URL with the embedded default filled in."""
        return self.database_url or f"sqlite:///{self.home / 'tidewheel.db'}"

    @property
    def blobs(self) -> str:
        """Blob URL with the embedded default filled in."""
        return self.blob_url or str(self.home / "blobs")


def load_settings(start: Path | None = None, environment: str | None = None) -> Settings:
    """Read the settings that hold in a folder.

    The nearest `tidewheel.toml` at or above `start` (default: the working folder) gives one table
    per environment; `TIDEWHEEL_<NAME>` variables win over the file. Without a file the embedded
    defaults hold and the home is `.tidewheel` in `start`.

    Raises NotFound for an environment the file does not have, InvalidInput for a bad file or value.
    """
    folder = (start or Path.cwd()).resolve()
    file = _nearest(folder)
    chosen = environment or os.environ.get("TIDEWHEEL_ENVIRONMENT") or DEFAULT_ENVIRONMENT
    table = _table(file, chosen) if file else {}
    if file is None and environment not in (None, DEFAULT_ENVIRONMENT):
        raise NotFound("environment", environment or "", mend=f"Write a {FILE_NAME} with a table [{environment}].")
    base = file.parent if file else folder
    settings = Settings(home=base / ".tidewheel", environment=chosen)
    changes: dict[str, Any] = {name: typed(name, value, base) for name, value in (table | _variables()).items()}
    return replace(settings, **changes)


def _nearest(folder: Path) -> Path | None:
    for place in (folder, *folder.parents):
        if (place / FILE_NAME).is_file():
            return place / FILE_NAME
    return None


def _table(file: Path, environment: str) -> dict[str, Any]:
    try:
        document = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} is not valid TOML: {error}.", "Correct the line that it names.") from error
    tables = {name: value for name, value in document.items() if isinstance(value, dict)}
    if environment not in tables:
        if environment == DEFAULT_ENVIRONMENT and not tables:
            return {}
        raise NotFound("environment", environment, tables, f"Add a table [{environment}] to {file}.")
    known = _names()
    for name in tables[environment]:
        if name not in known:
            raise NotFound("setting", name, known, f"It stands in [{environment}] of {file}.")
    return tables[environment]


def _variables() -> dict[str, Any]:
    prefix = "TIDEWHEEL_"
    found = {key.removeprefix(prefix).lower(): value for key, value in os.environ.items() if key.startswith(prefix)}
    return {name: value for name, value in found.items() if name in _names() - {"executors", "approvers", "log"}}


def _names() -> set[str]:
    return {field.name for field in fields(Settings)} - {"environment"}


def typed(name: str, value: object, base: Path) -> object:
    """Return the value of a setting in its type; paths are taken from `base`. Raises InvalidInput."""
    try:
        if name == "home":
            return (base / Path(str(value)).expanduser()).resolve()
        if name in ("executors", "log", "approvers"):
            return _groups(value) if name == "approvers" else _tables(value)
        if name.startswith("serve_") and name not in ("serve_host", "serve_port"):
            return _serving(name, value, base)
        if name == "secrets":
            return str((base / Path(str(value)).expanduser()).resolve()) if value else ""
        if name.endswith("_port") or name == "keep_runs":
            return _whole(name, int(str(value)))
        if name in ("public", "anonymous"):
            return _flag(str(value))
        if name in ("tick_seconds", "lease_seconds", "storage_patience", "keep_days"):
            return _seconds(name, float(str(value)))
    except ValueError as error:
        raise InvalidInput(f"The setting {name} = {value!r} cannot be used: {error}.", "Correct it.") from error
    return str(value)


def _serving(name: str, value: object, base: Path) -> object:
    if name in ("serve_budget_ms", "serve_timeout") or name.endswith("_seconds"):
        return _seconds(name, float(str(value)))
    if name in ("serve_waiting", "serve_grpc_port"):
        return _whole(name, int(str(value)))
    if name == "serve_origins":
        listed = value if isinstance(value, list) else str(value).split(",")
        return tuple(str(each).strip() for each in listed if str(each).strip())
    if name.startswith("serve_tls_"):
        return str((base / Path(str(value)).expanduser()).resolve()) if value else ""
    text = str(value)
    if name == "serve_workers" and text != "auto" and not (text.isascii() and text.isdigit() and int(text) > 0):
        raise ValueError("workers are a number from 1 on, or auto")
    if name == "serve_versions" and text not in ("deployed", "any"):
        raise ValueError("versions are deployed or any")
    if name == "serve_front" and text not in ("uvicorn", "fast"):
        raise ValueError("a front is uvicorn or fast")
    if name == "serve_memory":
        size_of(text)
    return text


def size_of(text: str) -> int:
    """Return the bytes that a size such as `500MB` or `2GB` means.

    >>> size_of("1.5GB")
    1500000000
    """
    units = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "B": 1}
    unit = next((each for each in units if text.strip().upper().endswith(each)), "")
    number = float(text.strip()[: -len(unit)] if unit else text)
    if not 0 <= number < float("inf"):
        raise ValueError("a size is a number of B, KB, MB or GB, such as 500MB")
    return int(number * units.get(unit, 1))


def _tables(value: object) -> Mapping[str, Mapping[str, Any]]:
    if not isinstance(value, dict) or not all(isinstance(table, dict) for table in value.values()):
        raise ValueError("options stand in tables such as [dev.executors.process] or [dev.log.bikes]")
    return value


def _groups(value: object) -> Mapping[str, tuple[str, ...]]:
    if not isinstance(value, dict) or not all(isinstance(names, list) for names in value.values()):
        raise ValueError('approvers are lists of people by group, such as {ml-leads = ["ann", "bo"]}')
    return {group: tuple(map(str, names)) for group, names in value.items()}


def _seconds(name: str, value: float) -> float:
    if not 0 <= value < float("inf"):
        raise ValueError("a time is 0 or more")
    if name == "lease_seconds" and value < _SHORTEST_LEASE:
        raise ValueError(f"a lease lasts at least {_SHORTEST_LEASE:g} seconds")
    return value


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError("a flag is true or false")
    return text.lower() in ("true", "1")


def _whole(name: str, value: int) -> int:
    if name == "keep_runs" and value < 0:
        raise ValueError("a number of runs is 0 or more")
    if name == "serve_waiting" and value < 1:
        raise ValueError("a number of requests is 1 or more")
    if name.endswith("_port") and not 0 <= value <= 65_535:
        raise ValueError("a port is 0 to 65535")
    return value
