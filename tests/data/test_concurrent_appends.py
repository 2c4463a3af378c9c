"""Two real processes append to one dataset at once: everything lands, nothing twice."""

import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from tidewheel.blobs.store import MemoryBlobs
from tidewheel.data import datasets
from tidewheel.errors import Conflict, NotFound
from tidewheel.lineage.store import Store

WRITER = """
import sys
from pathlib import Path
import polars as pl
from tidewheel.blobs.folder import FolderBlobs
from tidewheel.clock import SystemClock
from tidewheel.data import datasets
from tidewheel.database.database import open_database
from tidewheel.lineage.store import Store

url, folder, writer = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
store = Store(database=open_database(url), blobs=FolderBlobs(folder / "blobs"), clock=SystemClock(), home=folder)
sys.stdin.readline()
for i in range(12):
    datasets.append(store, "shared", pl.DataFrame({"writer": [writer], "i": [i]}))
print("done")
"""


@pytest.mark.slow
def test_two_processes_append_and_both_land(any_store: Store, tmp_path: Path) -> None:
    datasets.register(any_store, "shared", pl.DataFrame({"writer": [0], "i": [0]}))
    url = any_store.database.engine.url.render_as_string(hide_password=False)
    url = url.replace("postgresql+psycopg", "postgresql")
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, str(tmp_path), str(writer)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for writer in (1, 2)
    ]
    for process in writers:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in writers:
        output, errors = process.communicate(timeout=120)
        assert output == "done\n", errors
    frame = datasets.read(any_store, "shared")
    assert sorted(frame.rows()) == [(0, 0), *((writer, i) for writer in (1, 2) for i in range(12))]
    assert [version.seq for version in datasets.versions_of(any_store, "shared")] == list(range(25, 0, -1))
    assert datasets.profile_of(any_store, "shared").rows == 25


class BusyBlobs(MemoryBlobs):
    """Blobs on which somebody else appends whenever anything is put."""

    def __init__(self) -> None:
        super().__init__()
        self.rival: Store | None = None
        self.count = 0

    def put(self, data: bytes) -> str:
        store, self.rival = self.rival, None
        if store is not None:
            self.count += 1
            datasets.append(store, "shared", pl.DataFrame({"i": [self.count]}))
            self.rival = store
        return super().put(data)


def test_an_append_that_is_always_overtaken_says_so(store: Store) -> None:
    blobs = BusyBlobs()
    busy = Store(database=store.database, blobs=blobs, clock=store.clock, home=store.home)
    datasets.register(busy, "shared", pl.DataFrame({"i": [0]}))
    blobs.rival = busy
    with pytest.raises(Conflict, match="extended by others"):
        datasets.append(busy, "shared", pl.DataFrame({"i": [-1]}))
    blobs.rival = None
    assert sorted(datasets.read(busy, "shared")["i"].to_list()) == list(range(blobs.count + 1))


def test_validations_of_an_unknown_dataset_suggest_near_names(store: Store) -> None:
    datasets.register(store, "shared", pl.DataFrame({"i": [0]}))
    with pytest.raises(NotFound, match="Did you mean 'shared'"):
        datasets.validations_of(store, "share")
