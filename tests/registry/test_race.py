"""Real processes change one model at once: nothing is lost, and nothing that was deleted is pointed to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tidewheel.app import import_tables
from tidewheel.blobs.folder import FolderBlobs
from tidewheel.clock import ManualClock
from tidewheel.database.database import open_database
from tidewheel.database.migrate import prepare
from tidewheel.lineage.chain import verify_chain
from tidewheel.lineage.read import alias_history, find_entity, get_version, list_events
from tidewheel.lineage.store import Store
from tidewheel.registry.aliases import current_aliases
from tidewheel.registry.annotations import annotations_of
from tidewheel.registry.traffic import current_traffic, traffic_history
from tidewheel.registry.versions import get_model, list_versions

if TYPE_CHECKING:
    from tests.registry.conftest import BundleOf

RACER = Path(__file__).with_name("racer.py")
PROCESSES, ROUNDS = 3, 8


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def test_processes_at_once_lose_nothing(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path, bundle_of: BundleOf
) -> None:
    url = f"sqlite:///{tmp_path / 'race.db'}" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    database = open_database(url)
    prepare(database, import_tables)
    store = Store(database=database, blobs=FolderBlobs(tmp_path / "blobs"), clock=ManualClock(), home=tmp_path)
    digest = bundle_of(store).digest
    command = [sys.executable, str(RACER), url, str(tmp_path), digest]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    racers = [
        subprocess.Popen([*command, f"racer{number}", str(ROUNDS)], **pipes)  # type: ignore[call-overload]
        for number in range(PROCESSES)
    ]
    for racer in racers:
        assert racer.stdout.readline() == "ready\n"
    for racer in racers:
        racer.stdin.write("go\n")
        racer.stdin.flush()
    ended = [(*racer.communicate(timeout=120), racer.returncode) for racer in racers]
    assert [code for *_, code in ended] == [0] * PROCESSES, ended
    told = [int(line.split()[1]) for out, *_ in ended for line in out.splitlines()]
    total = PROCESSES * ROUNDS
    assert sorted(told) == list(range(1, total + 1))
    _check(store, total)
    database.close()


def _check(store: Store, total: int) -> None:
    versions = list_versions(store, "bikes", deleted=True)
    assert [item.seq for item in versions] == list(range(total, 0, -1))
    tags = annotations_of(store, "bikes")
    assert len(tags) == total
    assert {int(tag.value) for tag in tags.values()} == set(range(1, total + 1))
    with store.database.reading() as tx:
        assert verify_chain(tx).intact
        entity = find_entity(tx, "model", "bikes").id
        for name in ("prod", "champion"):
            pointings = alias_history(tx, entity, name)
            assert sum(each.valid_to is None for each in pointings) <= 1
        events = list_events(tx, subject_id=entity, limit=10_000)
        seqs = {get_version(tx, item.version_id).id: item.seq for item in versions}
    dead: set[int] = set()
    for event in events:
        if event.type == "model.deleted":
            dead.add(event.body["version"])
        elif event.type == "model.undeleted":
            dead.discard(event.body["version"])
        elif event.type == "alias.moved" and event.body["to"]:
            assert seqs[event.body["to"]] not in dead
        elif event.type == "traffic.moved":
            assert event.body["champion"] not in dead
    assert {item.seq for item in versions if item.deleted} == dead
    assert [row.seq for row in traffic_history(store, "bikes")] == list(
        range(current_traffic(store, "bikes").seq, 0, -1)
    )
    for seq in current_aliases(store, "bikes").values():
        assert get_model(store, f"bikes:{seq}").deleted is None
