"""Secrets: named by a step, read inside it, kept out of everything that is stored or shown."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NoReturn

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.pipelines.active import recorder
from tidewheel.pipelines.nested import mapped
from tidewheel.pipelines.redaction import Redactor

_TELLING = 4  # characters
_LONGEST = 1024 * 1024  # bytes; a longer file in the folder of secrets is no secret


class Secrets:
    """The secrets of one step; their values appear in no text, and cannot be pickled by accident.

    An executor sends `revealed()` over its own channel to the process that executes the step, and nowhere else.
    """

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})

    @property
    def names(self) -> tuple[str, ...]:
        """What they are called."""
        return tuple(self._values)

    def revealed(self) -> dict[str, str]:
        """Return the values by name."""
        return dict(self._values)

    def redactor(self) -> Redactor:
        """Return what takes them out of a stream of output."""
        return Redactor(self._values.values())

    def clean(self, text: str) -> str:
        """Return a text without them."""
        return self.redactor().clean(text) if self._values else text

    def told_in(self, value: object) -> str:
        """Return the name of a secret that stands in a text of a value, containers looked through; "" for none.

        One of less than four characters is not looked for: it stands in texts by chance.
        """
        texts: list[bytes] = []
        mapped(value, (str,), lambda text: texts.append(text.encode("utf-8", "surrogatepass")))
        mapped(value, (bytes,), texts.append)
        for name, secret in self._values.items():
            redactor = Redactor([secret])
            if len(secret) >= _TELLING and any(map(redactor.finds, texts)):
                return name
        return ""

    def __bool__(self) -> bool:
        return bool(self._values)

    def __repr__(self) -> str:
        return f"<secrets {', '.join(self._values) or 'none'}>"

    def __reduce__(self) -> NoReturn:
        raise InvalidInput(
            f"The secrets {', '.join(self._values)} cannot be pickled.",
            "Pass their names on, and read them where they are needed.",
        )


NONE = Secrets()
_held: ContextVar[Secrets | None] = ContextVar("tidewheel_secrets", default=None)
# The environment belongs to the whole process, so of the steps that set something in it one runs at a time.
_environment = threading.RLock()


def find_secrets(names: Iterable[str], folder: Path | None, *, wanted_by: str) -> Secrets:
    """Return secrets from the environment variables of this process, else from a folder that has a file for each.

    Of a file one line break at its end is dropped. `wanted_by` names the step for the message.

    Raises NotFound, without any value, for one that is not there or is empty.
    """
    return Secrets({name: _found(name, folder, wanted_by) for name in names})


def secret(name: str) -> str:
    """Return a secret that the step at hand has named: `@step(secrets=("DB_PASSWORD",))`.

    In a plain call, outside a run, it is read from the environment variable, else from the folder that the setting
    `secrets` names.

    Raises InvalidInput in the body of a pipeline and for a secret that the step has not named, NotFound for one that
    is not there.
    """
    held = _held.get()
    if held is not None:
        values = held.revealed()
        if name not in values:
            raise InvalidInput(
                f"The secret {name!r} is not among those that this step has named ({', '.join(values) or 'none'}).",
                f'Name it: @step(secrets=("{name}",)).',
            )
        return values[name]
    if recorder() is not None:
        raise InvalidInput(
            f"The secret {name!r} was asked for in the body of a pipeline, where it could reach the journal.",
            f'Ask for it inside the step that needs it: @step(secrets=("{name}",)).',
        )
    from tidewheel.settings import load_settings  # a worker never gets here, and starts the sooner

    settled = os.environ.get(name)
    return settled or _found(name, secrets_folder(load_settings().secrets), "this code")


def secrets_folder(setting: str) -> Path | None:
    """Return the folder that the setting `secrets` names; None where it names none."""
    return Path(setting) if setting else None


@contextlib.contextmanager
def equipped(variables: Mapping[str, str], secrets: Secrets) -> Iterator[None]:
    """Give the block environment variables and secrets (as variables too), and take them back after it."""
    wanted = {**variables, **secrets.revealed()}
    token = _held.set(secrets)
    try:
        with _environment if wanted else contextlib.nullcontext(), _set(wanted):
            yield
    finally:
        _held.reset(token)


@contextlib.contextmanager
def _set(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, text in before.items():
            if text is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = text


def shown_error(error: BaseException, secrets: Secrets) -> BaseException | None:
    """Return an error that may be chained to another one; None when it, or what caused it, tells a secret."""
    if not secrets:
        return error
    import traceback

    told = "".join(traceback.format_exception(error)) + repr(_attributes(error))
    return None if secrets.redactor().finds(told.encode("utf-8", "surrogatepass")) else error


def _attributes(error: BaseException) -> list[Any]:
    chain: list[Any] = []
    at: BaseException | None = error
    while at is not None and len(chain) < 100:
        chain.append((at.args, getattr(at, "__dict__", {})))
        at = at.__cause__ or at.__context__
    return chain


def _found(name: str, folder: Path | None, wanted_by: str) -> str:
    found = os.environ.get(name) or _in_folder(name, folder)
    if found:
        return found
    place = f", or put it into the file {folder / name}" if folder else ", or name a folder: the setting secrets"
    known = sorted(path.name for path in folder.iterdir() if path.is_file()) if folder and folder.is_dir() else ()
    raise NotFound("secret", name, known, mend=f"{wanted_by} needs it. Set the environment variable {name}{place}.")


def _in_folder(name: str, folder: Path | None) -> str:
    if folder is None:
        return ""
    try:
        with (folder / name).open("rb") as file:
            data = file.read(_LONGEST + 1)
        text = data.decode("utf-8") if len(data) <= _LONGEST else None
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise InvalidInput(
            f"The secret {name} in {folder} cannot be read: {error.strerror}.", "Give this user the right to read it."
        ) from error
    except UnicodeDecodeError:
        text = None
    if text is None:
        raise InvalidInput(
            f"The secret {name} in {folder} is not a text of at most {_LONGEST} bytes.", "Keep it as base64 text."
        )
    return text.removesuffix("\n").removesuffix("\r")
