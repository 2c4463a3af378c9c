"""A loop takes every trigger and every combination, remembers for them, and keeps what it declares."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tidewheel import triggers
from tidewheel.data import datasets
from tidewheel.errors import InvalidInput
from tidewheel.lineage.store import Store
from tidewheel.loop.declared import declare_loop, load_declared, stored_declaration
from tidewheel.loop.state import load_state
from tidewheel.loop.tick import Ticker
from tidewheel.triggers.state import declared_hooks
from tidewheel.web.gather import read_status


def causes(store: Store, loop: Any, rounds: int) -> list[str]:
    ticker, found = Ticker(store, loop), []
    for _ in range(rounds):
        report = ticker.tick()
        found.append(report.cause.trigger if report.cause else "")
    return found


def test_files_and_clocks_retrain_once_for_each_cause(
    store: Store, stand: Any, orchard: ModuleType, tmp_path: Path
) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    wanted = [triggers.files(str(inbox / "*.csv"), settle=0) & triggers.every("1h")]
    loop = orchard.make_loop(on=wanted)
    assert causes(store, loop, 2) == ["first", ""]
    (inbox / "a.csv").write_text("1")
    assert causes(store, loop, 1) == [""]  # the hour has not passed
    store.clock.advance(timedelta(hours=1))  # type: ignore[attr-defined]
    assert causes(store, loop, 3) == ["files", "", ""]
    store.clock.advance(timedelta(hours=1))  # type: ignore[attr-defined]
    assert causes(store, loop, 2) == ["", ""]  # no file
    with store.database.reading() as tx:
        assert [row["item"] for row in tx.rows("SELECT item FROM trigger_item")] == [str(inbox / "a.csv")]


def test_a_new_version_counts_in_a_loop(store: Store, stand: Any, orchard: ModuleType) -> None:
    loop = orchard.make_loop(on=[triggers.new_data()])
    assert causes(store, loop, 3) == ["first", "", ""]
    datasets.append(store, "orchard", orchard.harvest(np.random.default_rng(3), 20))
    assert causes(store, loop, 3) == ["new_data", "", ""]
    with store.database.reading() as tx:
        assert load_state(tx, "apples").state.memory["new_data()"]["rows"] == 220


def test_what_a_loop_declares_is_kept_for_the_page(store: Store, stand: Any, orchard: ModuleType) -> None:
    assert stored_declaration(store, "apples") is None
    rules = [triggers.cron("0 3 * * *"), triggers.drift(psi=0.3), triggers.webhook("ci", secret="CI_SECRET")]
    loop = orchard.make_loop(on=rules)
    Ticker(store, loop).tick()
    declared = stored_declaration(store, "apples")
    assert declared is not None
    assert declared["on"] == ["cron(0 3 * * * UTC)", "drift(psi=0.3, windows=2)", "webhook(ci)"]
    assert declared_hooks(store) == {"ci": "CI_SECRET"}
    shown = read_status(store).shown
    assert shown is not None
    assert [line.kind for line in shown.triggers] == ["cron", "drift", "webhook"]
    with store.database.reading() as tx:
        before = tx.rows("SELECT * FROM trigger_state")
    declare_loop(store, loop)
    with store.database.reading() as tx:
        assert tx.rows("SELECT * FROM trigger_state") == before


FILE = """
from tidewheel import pipeline, step, triggers

@pipeline
def work(due: str = "") -> str:
    return due

one = triggers.Schedule(work, on=[triggers.every("1h")], name="one")
more = [triggers.Schedule(work, on=[triggers.every("1h")], name=name) for name in ("two", "three")]
again = one
"""


def test_a_file_declares_loops_and_schedules(tmp_path: Path, orchard: ModuleType) -> None:
    path = tmp_path / "declares.py"
    path.write_text(FILE)
    loops = tmp_path / "loops.py"
    loops.write_text("from orchard import make_loop\n\nloop = make_loop()\n")
    found = load_declared([str(path), str(loops)])
    assert [schedule.name for schedule in found.schedules] == ["one", "two", "three"]
    assert [loop.model for loop in found.loops] == ["apples"]
    assert [schedule.name for schedule in load_declared([f"{path}:more"]).schedules] == ["two", "three"]
    clash = tmp_path / "clash.py"
    clash.write_text(FILE.replace('"two", "three"', '"one", "three"'))
    with pytest.raises(InvalidInput, match="Two schedules are called one"):
        load_declared([str(clash)])
    nothing = tmp_path / "nothing.py"
    nothing.write_text("x = 1\n")
    with pytest.raises(InvalidInput, match="declares neither"):
        load_declared([str(nothing)])
