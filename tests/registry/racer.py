"""A process that registers, tags, moves aliases, deletes and promotes, as fast as it can, beside others like it."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from tidewheel.app import import_tables
from tidewheel.blobs.folder import FolderBlobs
from tidewheel.clock import SystemClock
from tidewheel.database.database import open_database
from tidewheel.errors import Conflict
from tidewheel.lineage.store import Store
from tidewheel.models.bundle import load_bundle
from tidewheel.registry.aliases import set_alias
from tidewheel.registry.annotations import annotate
from tidewheel.registry.deletion import delete_version, undelete_version
from tidewheel.registry.promotion import promote
from tidewheel.registry.versions import list_versions, register_model


def main(url: str, home: str, digest: str, name: str, rounds: int) -> None:
    import_tables()
    database = open_database(url)
    store = Store(database=database, blobs=FolderBlobs(Path(home) / "blobs"), clock=SystemClock(), home=Path(home))
    choose = random.Random(name)
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(rounds):
        mine = register_model(store, "bikes", load_bundle(store, digest), by=name)
        annotate(store, "bikes", {f"tags.{name}-{number}": str(mine.seq)}, by=name)
        seq = choose.choice(list_versions(store, "bikes", deleted=True)).seq
        verbs: tuple[Callable[[], object], ...] = (
            partial(promote, store, "bikes", seq, by=name, reason="race"),
            partial(set_alias, store, "bikes", "prod", seq, by=name, reason="race"),
            partial(delete_version, store, "bikes", seq, by=name, reason="race", force=True),
            partial(undelete_version, store, "bikes", seq, by=name),
        )
        for verb in choose.sample(verbs, 3):
            with suppress(Conflict):  # somebody has deleted it, or points to it
                verb()
        print("registered", mine.seq, flush=True)
    database.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
