"""Open the project's store for one command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tidewheel.lineage.store import Store
    from tidewheel.settings import Settings


def settings_for(home: str = "") -> Settings:
    """Return the settings that hold here, with the home that the caller chose."""
    from tidewheel.settings import load_settings

    settings = load_settings()
    return replace(settings, home=Path(home).expanduser().resolve()) if home else settings


def changed(settings: Settings, words: Mapping[str, str]) -> Settings:
    """Return settings with some of them replaced by words of the command line, checked like those of the file."""
    from tidewheel.settings import typed

    values: dict[str, Any] = {name: typed(name, text, Path.cwd()) for name, text in words.items()}
    return replace(settings, **values)


@contextmanager
def opened(home: str = "") -> Iterator[Store]:
    """Open the store, and close it when the command is done."""
    from tidewheel.app import open_store

    store = open_store(settings_for(home))
    try:
        yield store
    finally:
        store.close()
