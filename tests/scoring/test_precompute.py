"""A whole dataset is scored into a table that answers look-ups, at once and with its age."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.scoring.conftest import numbers, texts

from tidewheel.clock import ManualClock
from tidewheel.data.datasets import register
from tidewheel.errors import Conflict, InvalidInput, NotFound
from tidewheel.lineage.read import get_execution, list_executions, list_used
from tidewheel.lineage.store import Store
from tidewheel.registry.versions import get_model
from tidewheel.scoring.loaded import load_model
from tidewheel.scoring.online import MemoryOnline, open_online
from tidewheel.scoring.precompute import precompute
from tidewheel.serving.engine import Engine


def look(engine: Engine, path: str) -> tuple[int, dict[str, Any]]:
    response = engine.handle("GET", path, [], b"")
    return response.status, json.loads(response.body)


def test_look_ups_answer_what_predict_does_with_version_and_age(yard: Store) -> None:
    rows = texts(200)
    version = register(yard, "rides", rows)
    online = open_online(yard.online_url, yard.home)
    model = load_model(yard, "colors@champion")
    engine = Engine(yard)
    engine.refresh()
    status, body = look(engine, "/lookup/colors/ride-7")
    assert (status, "tidewheel precompute colors" in body["mend"]) == (404, True)
    done = precompute(yard, online, model, "rides", key="id")
    assert isinstance(yard.clock, ManualClock)
    yard.clock.advance(timedelta(seconds=90))
    status, body = look(engine, "/lookup/colors/ride-7")
    assert status == 200
    assert body["prediction"] == model.predict(rows)[7]
    assert body["probabilities"] == pytest.approx(model.predict_proba(rows).row(7))
    assert (body["version"], body["age_seconds"], body["classes"]) == ("1", 90.0, ["no", "yes"])
    assert (done.rows, done.entries) == (200, 200)
    status, body = look(engine, "/lookup/colors/ride-7777")
    assert (status, body["error"]) == (404, "There is no answer of colors named 'ride-7777'.")
    assert "200 ids were computed ahead by colors:1" in body["mend"]
    with yard.database.reading() as tx:
        used = list_used(tx, done.run_id)
        assert get_execution(tx, done.run_id).state == "SUCCEEDED"
    assert used == {"model": get_model(yard, "colors").version_id, "rows": version.version_id}
    engine.close()


def test_whole_numbers_and_odd_texts_are_ids(yard: Store, tmp_path: Path) -> None:
    numbers(5).with_columns(id=pl.Series([10, 11, 12, 13, 10])).write_parquet(tmp_path / "in.parquet")
    online = open_online("", yard.home)
    done = precompute(yard, online, load_model(yard, "line"), str(tmp_path / "in.parquet"), key="id")
    assert (done.rows, done.entries) == (5, 4)
    engine = Engine(yard)
    engine.refresh()
    expected = load_model(yard, "line").predict(numbers(5))
    assert look(engine, "/lookup/line/10")[1]["prediction"] == pytest.approx(expected[4])  # the last one counts
    names = ["a b", "ü", "x%2Fy", "x+y"]
    numbers(4).with_columns(id=pl.Series(names)).write_parquet(tmp_path / "odd.parquet")
    yard.clock.advance(timedelta(seconds=1))  # type: ignore[attr-defined]
    precompute(yard, online, load_model(yard, "line"), str(tmp_path / "odd.parquet"), key="id")
    assert look(engine, "/lookup/line/a b")[0] == 200
    assert [look(engine, f"/lookup/line/{name}")[0] for name in names] == [200] * 4
    assert look(engine, "/lookup/line/10")[0] == 404
    engine.close()


def test_slips_leave_the_answers_before_them(yard: Store, tmp_path: Path) -> None:
    good = numbers(30)
    good.write_parquet(tmp_path / "good.parquet")
    online, model = MemoryOnline(), load_model(yard, "trees")
    precompute(yard, online, model, str(tmp_path / "good.parquet"), key="id")
    before = online.live("trees")
    with pytest.raises(NotFound, match="to be the key of the look-ups"):
        precompute(yard, online, model, str(tmp_path / "good.parquet"), key="idd")
    with pytest.raises(InvalidInput, match="which is no id"):
        precompute(yard, online, model, str(tmp_path / "good.parquet"), key="a")
    good.with_columns(id=pl.when(pl.col("n") > 3).then("id")).write_parquet(tmp_path / "gaps.parquet")
    with pytest.raises(InvalidInput, match=r"rows of .*gaps\.parquet have no 'id'"):
        precompute(yard, online, model, str(tmp_path / "gaps.parquet"), key="id")
    assert online.live("trees") == before
    with yard.database.reading() as tx:
        assert {run.state for run in list_executions(tx, "scoring")} == {"SUCCEEDED", "FAILED"}


def test_answers_begun_earlier_do_not_replace_later_ones(yard: Store, tmp_path: Path) -> None:
    numbers(30).write_parquet(tmp_path / "good.parquet")
    online, model = MemoryOnline(), load_model(yard, "trees")
    precompute(yard, online, model, str(tmp_path / "good.parquet"), key="id")
    yard.clock.advance(timedelta(hours=-1))  # type: ignore[attr-defined]
    with pytest.raises(Conflict, match="newer answers are served"):
        precompute(yard, online, model, str(tmp_path / "good.parquet"), key="id")
