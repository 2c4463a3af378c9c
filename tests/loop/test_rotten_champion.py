"""A champion whose stored bytes have rotted: the loop says which version, goes on where it can, and is mended."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tidewheel.errors import CorruptBlob
from tidewheel.evaluation import gates
from tidewheel.lineage.store import Store
from tidewheel.loop import triggers
from tidewheel.loop.status import LoopStatus, status
from tidewheel.loop.tick import Ticker
from tidewheel.models.bundle import load_bundle
from tidewheel.registry.promotion import rollback
from tidewheel.registry.versions import get_model


def spoil(store: Store, digest: str) -> tuple[Path, bytes]:
    """Flip one bit of a blob; return its file and what it held."""
    text = digest.removeprefix("sha256:")
    path = store.home / "blobs" / text[:2] / text[2:]
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    return path, data


def state_of(store: Store) -> LoopStatus:
    """Return the status of the loop."""
    return status(store, "apples")[0]


@pytest.fixture
def ticker(stand: Any, orchard: ModuleType) -> Ticker:
    """A loop with one deployed version."""
    gate = gates.beats_champion("accuracy", demand="not_worse", confidence=0.5, margin=0.5)
    ticker = Ticker(stand.store, orchard.make_loop(on=[triggers.new_data(rows=40)], collect_rows=20, gates=[gate]))
    assert ticker.tick().trained is not None
    return ticker


def test_rotten_weights_end_a_retraining_with_the_version_named(stand: Any, ticker: Ticker) -> None:
    store = stand.store
    bundle = load_bundle(store, get_model(store, "apples:1").bundle_digest)
    stand.sell(20)
    path, data = spoil(store, bundle.manifest.formats[0].digest)
    stand.sell(20)
    trained = ticker.tick().trained
    assert trained is not None
    assert trained.ending == "failed"
    assert trained.reason.startswith("The champion apples:1 cannot be loaded, so nothing can be compared with it")
    assert str(path) in trained.reason
    assert (state_of(store).doing, state_of(store).champion) == ("watching", 1)
    path.write_bytes(data)
    stand.sell(40)
    after = ticker.tick().trained
    assert after is not None
    assert (after.ending, after.version) == ("deployed", 2)


def test_a_rotten_manifest_stops_the_look_until_it_is_whole_and_loses_no_label(stand: Any, ticker: Ticker) -> None:
    store = stand.store
    stand.sell(10)
    path, data = spoil(store, get_model(store, "apples:1").bundle_digest)
    for _ in range(3):
        with pytest.raises(
            CorruptBlob, match=r"champion apples:1 cannot be loaded.*\n.*backup.*models rollback apples"
        ):
            ticker.tick()
    found = state_of(store)
    assert found.doing.startswith("cannot look: The champion apples:1 cannot be loaded")
    assert [text for _, text in found.decisions if "cannot look" in text] == [found.doing]
    stand.sell(10)
    path.write_bytes(data)
    ticker.tick()
    assert (state_of(store).doing, state_of(store).labelled) == ("watching", 20)


def test_a_rollback_gets_away_from_a_rotten_champion(stand: Any, ticker: Ticker) -> None:
    store = stand.store
    stand.sell(80)
    trained = ticker.tick().trained
    assert trained is not None
    assert trained.version == 2
    spoil(store, get_model(store, "apples:2").bundle_digest)
    with pytest.raises(CorruptBlob, match="apples:2"):
        Ticker(store, ticker.loop).tick()
    rollback(store, "apples", by="ann", reason="the bundle of version 2 has rotted")
    Ticker(store, ticker.loop).tick()
    assert (state_of(store).doing, state_of(store).champion) == ("watching", 1)
