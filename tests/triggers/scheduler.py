"""A scheduler whose clock jumps: it looks at the schedules of a store, with its own idea of the time.

Run as `python scheduler.py FILE HOME BLOBS DATABASE SEED BEGIN HOURS`; ends once its clock has come to the end.
"""

from __future__ import annotations

import random
import sys
from datetime import datetime, timedelta
from pathlib import Path

from tidewheel.app import import_tables
from tidewheel.blobs.folder import FolderBlobs
from tidewheel.clock import ManualClock
from tidewheel.database.database import open_database
from tidewheel.database.migrate import prepare
from tidewheel.lineage.store import Store
from tidewheel.pipelines.target import load_target
from tidewheel.triggers.tick import tick

JUMPS = [timedelta(hours=5), timedelta(hours=-3), timedelta(days=1), timedelta(hours=-30), timedelta(minutes=61)]


def main(arguments: list[str]) -> None:
    file, home, blobs, url, seed, begin, hours = arguments
    luck, clock = random.Random(int(seed)), ManualClock(datetime.fromisoformat(begin))
    database = open_database(url)
    prepare(database, import_tables)
    store = Store(database=database, blobs=FolderBlobs(Path(blobs)), clock=clock, home=Path(home))
    schedules = load_target(f"{file}:storm")
    end = clock.now() + timedelta(hours=int(hours))
    while clock.now() < end:
        tick(store, schedules, works=luck.random() < 0.5)
        jump = luck.choice(JUMPS) if luck.random() < 0.15 else timedelta(minutes=luck.randrange(1, 90))
        clock.advance(jump)
    clock.advance(end - clock.now())
    tick(store, schedules)
    store.close()


if __name__ == "__main__":
    main(sys.argv[1:])
