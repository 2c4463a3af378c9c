"""What may not be kept never reaches the disk; what joins outcomes always does; a slow disk keeps nobody waiting."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.predictions.join import Joiner
from tidewheel.predictions.log import LogWriter, read_log
from tidewheel.predictions.records import Prediction
from tidewheel.predictions.rules import LogRules, Redaction, rules_for, salt_of
from tidewheel.predictions.segments import log_folder
from tidewheel.serving import journal as journals
from tidewheel.serving.engine import Engine
from tidewheel.serving.journal import Journal
from tidewheel.serving.metrics import Counters
from tidewheel.serving.terms import Terms

if TYPE_CHECKING:
    from tests.serving.conftest import Shop

CANARY = "4929-1234-SECRET"


def engine_with(shop: Shop, rules: dict[str, Any]) -> Engine:
    engine = Engine(shop.store, writer="w1", terms=Terms(log={"*": rules}))
    engine.refresh()
    return engine


def post(engine: Engine, path: str, content: Any, headers: list[tuple[bytes, bytes]] | None = None) -> int:
    return engine.handle("POST", path, headers or [], json.dumps(content).encode()).status


@pytest.mark.parametrize("way", ["drop", "hash", "mask"])
def test_a_redacted_column_reaches_no_file(shop: Shop, way: str, capfd: pytest.CaptureFixture[str]) -> None:
    shop.register("colors", "paint")
    shop.deploy(1, "paint")
    engine = engine_with(shop, {way: ["color", "unit"]})
    row = {"color": CANARY, "size": 1.0, "new": True}
    unit = [(b"x-unit-id", CANARY.encode())]
    assert post(engine, "/predict/paint", {"rows": [row], "id": "a"}, unit) == 200
    assert post(engine, "/predict/paint", {"rows": [row | {"size": CANARY}], "id": "b"}, unit) == 422
    engine.close()
    kept = shop.log("paint")
    assert [record.status for record in kept] == [200, 422]
    assert kept[0].features[0][1:] == [1.0, True]
    assert kept[0].redacted == (0,)
    folder = log_folder(shop.store.home, "paint")
    assert not any(CANARY.encode() in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert CANARY not in "".join(capfd.readouterr())


def test_a_sample_keeps_payloads_and_every_outcome_joins(shop: Shop) -> None:
    engine = engine_with(shop, {"share": 0.25})
    for number in range(200):
        post(engine, "/predict/bikes", {"rows": [{"a": 1.0, "b": 1.0, "n": 1}] * 2, "id": f"r{number}"})
    outcomes = [{"id": f"r{number}/1", "label": 1} for number in range(200)]
    assert post(engine, "/outcomes", {"outcomes": outcomes}) == 202
    engine.close()
    records = shop.log()
    kept = [record for record in records if record.features]
    assert len(records) == 200
    assert 25 < len(kept) < 75
    assert all(len(record.output) == 2 and record.propensity == 1.0 for record in records)
    rows = Joiner(log_folder(shop.store.home, "bikes")).labelled().rows
    assert [row.id for row in rows] == [outcome["id"] for outcome in outcomes]
    assert sum(row.kept for row in rows) == len(kept)


def test_hashes_are_equal_where_values_are_and_keyed_by_the_home(tmp_path: Path) -> None:
    rules = LogRules(hash=frozenset({"a"}))
    here, there = salt_of(tmp_path / "x"), salt_of(tmp_path / "y")
    one, same, other = (Redaction(rules, ["a"], salt).rows([["ann"]])[0][0] for salt in (here, here, there))
    assert one == same != other
    assert (tmp_path / "x" / "log" / ".salt").stat().st_mode & 0o077 == 0
    assert salt_of(tmp_path / "x") == here


@pytest.mark.parametrize("table", [{"drp": ["a"]}, {"drop": "a"}, {"share": 2}, {"days": -1}, {"share": True}])
def test_wrong_rules_are_named(table: dict[str, Any]) -> None:
    with pytest.raises((NotFound, InvalidInput), match="log"):
        rules_for({"bikes": table}, "bikes")


def record(number: int) -> Prediction:
    return Prediction(
        id=f"r{number}", at=number, model="m", version=1, arm="champion", propensity=1.0, unit="", status=200,
        features=[[1.0]], output=[1.0],
    )  # fmt: skip


class StuckLog(LogWriter):
    """A disk that takes nothing until it is let."""

    let: threading.Event

    def flush(self) -> None:
        """Wait for the disk."""
        self.let.wait(20)
        super().flush()


def test_answers_do_not_wait_for_a_slow_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first slow write is waited for; then a thread writes, in order, until the disk has caught up."""
    StuckLog.let = threading.Event()
    StuckLog.let.set()
    monkeypatch.setattr(journals, "LogWriter", StuckLog)
    monkeypatch.setattr(journals, "LEAN_FROM", 10)
    monkeypatch.setattr(journals, "MOST_WAITING", 20)
    counters = Counters()
    ticks = iter([0.0, 1.0])  # the first write took a second
    log = Journal(tmp_path, "w0", counters, strict=False, seconds=lambda: next(ticks, 2.0))
    log.write(record(0))
    StuckLog.let.clear()
    log.write(record(1))  # its thread takes this one, and hangs
    waited = threading.Event()

    def more() -> None:
        for number in range(2, 40):
            log.write(record(number))
        waited.set()

    threading.Thread(target=more, daemon=True).start()
    assert waited.wait(10)  # nobody hung
    StuckLog.let.set()
    log.close()
    kept = read_log(tmp_path).records
    assert [each.at for each in kept] == list(range(len(kept)))
    assert len(kept) + counters.dropped == 40
    assert counters.dropped >= 18
    assert sum(not each.features for each in kept) == counters.payloads_dropped > 0
    assert counters.deferred == len(kept) - 1
