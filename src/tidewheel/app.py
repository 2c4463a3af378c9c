"""Read the settings, name the concrete backends, hand out what the rooms need."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tidewheel.settings import Settings, load_settings

if TYPE_CHECKING:
    from tidewheel.lineage.store import Store

ROOMS_WITH_TABLES = (
    "lineage",
    "data",
    "predictions",
    "pipelines",
    "evaluation",
    "monitoring",
    "registry",
    "rollout",
    "loop",
)


def open_store(settings: Settings | None = None) -> Store:
    """Open the store that the settings name, its tables made or migrated."""
    from tidewheel.blobs.open import open_blobs
    from tidewheel.clock import SystemClock
    from tidewheel.database.database import open_database
    from tidewheel.database.migrate import prepare
    from tidewheel.lineage.store import Store as Opened

    settings = settings or load_settings()
    import_tables()
    database = open_database(settings.database)
    prepare(database)
    return Opened(database=database, blobs=open_blobs(settings.blobs), clock=SystemClock(), home=settings.home)


def import_tables() -> None:
    """Import every room's tables, so that the one MetaData knows them all."""
    for room in ROOMS_WITH_TABLES:
        if find_spec(f"tidewheel.{room}.tables"):
            import_module(f"tidewheel.{room}.tables")
