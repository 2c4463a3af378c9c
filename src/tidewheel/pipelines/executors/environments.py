"""Isolated environments: made once from a lock or a script's header, kept by digest, never used half made."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tidewheel.errors import InvalidInput, MissingExtra, StorageUnavailable
from tidewheel.fingerprint.besides import SCRIPT, matching, script_header
from tidewheel.pipelines.step import Step

_FORMAT = 1  # raised when environments made before can no longer be used
READY = "tidewheel-environment.json"  # written last: a folder without it is half made
_UV_LOCK = "uv.lock"
_CLAUSE = re.compile(r"\s*(>=|<=|>|<|==|!=|~=)\s*(\d+)(?:\.(\d+))?(?:\.(?:\d+|\*))?\s*")
_SAID_LINES = 6  # of what the installer printed


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What an environment is made of."""

    name: str  # as the step names it
    file: Path | None  # lock or requirements file; None for a script's header
    packages: tuple[str, ...]  # requirements of a script's header
    python: str  # version specifier that the recipe asks for; "" for the Python at hand
    digest: str  # of the content, the Python and the platform


def recipe_of(step: Step[..., Any], name: str) -> Recipe:
    """Return what the environment of a step is made of: a lock or requirements file, or "script" for its header.

    Raises InvalidInput when there is no such file or header, or the header cannot be read.
    """
    if name == SCRIPT:
        header = _parsed(script_header(step.__wrapped__), step)
        packages = tuple(str(each) for each in header.get("dependencies", ()))
        return _recipe(name, None, packages, str(header.get("requires-python", "")), "\n".join(packages).encode())
    files = [path for path in matching(step.__wrapped__, name).values() if path.is_file()]
    if len(files) != 1:
        raise InvalidInput(
            f"isolate={name!r} of {step.name} names {len(files) or 'no'} file{'s' if files else ''}.",
            "Give the path of one lock or requirements file, beside the step's file or in the working folder.",
        )
    data = files[0].read_bytes()
    return _recipe(name, files[0].resolve(), (), _python_of(files[0], data), data)


def python_in(folder: Path) -> Path:
    """Return the interpreter of an environment."""
    return folder / "bin" / "python"


def existing(recipe: Recipe, root: Path) -> Path | None:
    """Return the folder of an environment that is complete; None when it has to be made."""
    folder = root / recipe.digest
    if not (folder / READY).is_file() or not python_in(folder).exists():
        return None
    with contextlib.suppress(OSError):  # an environment that several users share need not be ours
        os.utime(folder / READY)  # when it was used last, for whoever clears up
    return folder


def make(recipe: Recipe, root: Path, installer: str = "") -> Path:
    """Return the folder of an environment, made now unless it is there; who makes the same one meanwhile is awaited.

    `installer` is "uv" or "pip"; without a word uv where there is one, else pip.

    Raises InvalidInput, with the installer's last lines, when it cannot be made; StorageUnavailable without room.
    """
    folder = existing(recipe, root)
    if folder is not None:
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _only_one(root / f"{recipe.digest}.lock") as lock:
            return existing(recipe, root) or _made(recipe, root / recipe.digest, lock, installer)
    except OSError as error:
        raise StorageUnavailable(
            f"The environment {recipe.name} cannot be made in {root}: {error.strerror or error}.",
            "Free room or make the folder writable.",
        ) from error


def _made(recipe: Recipe, folder: Path, lock: int, wished: str) -> Path:
    shutil.rmtree(folder, ignore_errors=True)  # what somebody left who was killed in the middle
    uv = find_uv() if wished != "pip" else None
    if uv is None and wished == "uv":
        raise MissingExtra("uv", "isolate")
    installer = _with_uv(uv, recipe, folder, lock) if uv else _with_pip(recipe, folder, lock)
    record = {"recipe": recipe.name, "python": recipe.python, "installer": installer, "packages": recipe.packages}
    partial = folder / f"{READY}.partial"
    partial.write_text(json.dumps(record))
    partial.replace(folder / READY)
    return folder


def find_uv() -> str | None:
    """Return the path of uv: of the package that the extra `isolate` installs, else the one on PATH."""
    try:
        import uv
    except ImportError:
        return shutil.which("uv")
    try:
        return str(uv.find_uv_bin())
    except FileNotFoundError:
        return shutil.which("uv")


def _with_uv(uv: str, recipe: Recipe, folder: Path, lock: int) -> str:
    python = sys.executable if satisfies(recipe.python, sys.version_info[:2]) else recipe.python
    _call([uv, "venv", "--quiet", "--no-project", "--python", python, str(folder)], recipe, lock)
    wanted = _wanted(recipe, folder)
    if recipe.file is not None and recipe.file.name == _UV_LOCK:
        wanted = folder / "requirements.txt"
        export = [uv, "export", "--quiet", "--frozen", "--no-emit-project", "--no-dev", "--output-file", str(wanted)]
        _call([*export, "--project", str(recipe.file.parent)], recipe, lock)
    if wanted is not None:
        install = [uv, "pip", "install", "--quiet", "--python", str(python_in(folder)), "--requirements", str(wanted)]
        _call(install, recipe, lock)
    return "uv"


def _with_pip(recipe: Recipe, folder: Path, lock: int) -> str:
    if not satisfies(recipe.python, sys.version_info[:2]) or (recipe.file and recipe.file.suffix in (".lock", ".toml")):
        raise InvalidInput(
            f"The environment {recipe.name} needs uv: it asks for another Python, or its lock is in uv's format.",
            "Install it with: pip install 'tidewheel[isolate]'",
        )
    _call([sys.executable, "-m", "venv", str(folder)], recipe, lock)
    wanted = _wanted(recipe, folder)
    if wanted is not None:
        pip = [str(python_in(folder)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _call([*pip, "--requirement", str(wanted)], recipe, lock)
    return "pip"


def _wanted(recipe: Recipe, folder: Path) -> Path | None:
    """Return the requirements file; None when nothing is to be installed."""
    if recipe.file is not None:
        return recipe.file
    if not recipe.packages:
        return None
    file = folder / "requirements.txt"
    file.write_text("".join(f"{package}\n" for package in recipe.packages))
    return file


def _call(command: Sequence[str], recipe: Recipe, lock: int) -> None:
    """Run the installer; it holds the lock too, so that it is alone even when this process is killed before it."""
    folder = recipe.file.parent if recipe.file is not None else None
    variables = {name: text for name, text in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(  # noqa: S603 - uv or pip, with arguments of ours
        command, capture_output=True, text=True, cwd=folder, env=variables, pass_fds=(lock,), check=False
    )
    if done.returncode != 0:
        said = "\n    ".join((done.stderr or done.stdout).strip().splitlines()[-_SAID_LINES:])
        raise InvalidInput(
            f"The environment {recipe.name} cannot be made: {Path(command[0]).name} ended with {done.returncode}.\n"
            f"    {said}",
            "Correct the lock or header, or reach the package index.",
        )


@contextmanager
def _only_one(path: Path) -> Iterator[int]:
    """Hold a lock that the kernel frees when its last holder, a child too, has ended."""
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(number, fcntl.LOCK_EX)
        yield number
    finally:
        os.close(number)


def _recipe(name: str, file: Path | None, packages: tuple[str, ...], python: str, data: bytes) -> Recipe:
    here = f"{_FORMAT} {sys.platform} {os.uname().machine} {sys.version_info[:2]} {python} {name == SCRIPT}"
    whole = hashlib.sha256(here.encode() + b"\0" + data)
    if file is not None:
        whole.update(f"{file.name} {file.parent if b'./' in data else ''}".encode())  # what it names relative to itself
    return Recipe(name=name, file=file, packages=packages, python=python, digest=whole.hexdigest()[:40])


def _parsed(header: str, step: Step[..., Any]) -> dict[str, Any]:
    text = "".join(line[2:] if line.startswith("# ") else line[1:] for line in header.splitlines(keepends=True))
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(
            f"The header of the file of {step.name} is not valid TOML: {error}.",
            'Write it like: # dependencies = ["polars>=1.20"] (PEP 723).',
        ) from error


def _python_of(file: Path, data: bytes) -> str:
    if file.name != _UV_LOCK and not (file.name.startswith("pylock") and file.suffix == ".toml"):
        return ""
    try:
        return str(tomllib.loads(data.decode()).get("requires-python", ""))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"The lock {file} cannot be read: {error}.", "Write it anew with: uv lock") from error


def satisfies(specifier: str, version: tuple[int, int]) -> bool:
    """Say whether a Python, by major and minor version, is one that a specifier allows; False when in doubt.

    >>> satisfies(">=3.10,<3.13", (3, 11)), satisfies("==3.12.*", (3, 11)), satisfies("", (3, 11))
    (True, False, True)
    """
    return all(_allows(clause, version) for clause in specifier.split(",") if clause.strip())


def _allows(clause: str, version: tuple[int, int]) -> bool:
    found = _CLAUSE.fullmatch(clause)
    if found is None:
        return False
    mark, wanted = found[1], (int(found[2]), int(found[3] or 0))
    if mark in ("==", "~=") and found[3] is None:
        return version[0] == wanted[0]
    if mark == "~=":
        return version[0] == wanted[0] and version[1] >= wanted[1] if clause.count(".") < 2 else version == wanted
    return {
        ">=": version >= wanted,
        "<=": version <= wanted,
        ">": version > wanted,
        "<": version < wanted,
        "==": version == wanted,
        "!=": version != wanted,
    }[mark]
