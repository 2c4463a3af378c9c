"""A grid is run side by side with a shared cache; points fail alone; the same sweep goes on with what is not done."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import tidewheel
from tidewheel.errors import AlreadyRunning, InvalidInput, NotFound
from tidewheel.lineage.read import get_execution
from tidewheel.lineage.store import Store
from tidewheel.pipelines.find import Wanted, find_runs
from tidewheel.pipelines.locks import run_lock
from tidewheel.pipelines.records import RunEvent
from tidewheel.pipelines.runs import get_run
from tidewheel.pipelines.sweep import MOST, Ranking, grid_points, run_sweep
from tidewheel.pipelines.target import load_target
from tidewheel.pipelines.wiring import wiring
from tidewheel.project import App

FLOW = """
from pathlib import Path
from tidewheel import latest, pipeline, step

def beside(name: str) -> Path:
    return Path(__file__).with_name(name)

def note(text: str) -> None:
    with beside("book.txt").open("a") as book:
        book.write(text + "\\n")

@step
def rows(n: int) -> list[int]:
    note("rows")
    return list(range(n))

@step
def score(rows: list[int], depth: int, lr: float) -> dict[str, float]:
    note(f"score {depth} {lr}")
    if depth == 8 and not beside("mended").exists():
        raise ValueError("too deep")
    return {"loss": depth * lr, "n": len(rows)}

@pipeline
def grown(n: int = 5, depth: int = 1, lr: float = 0.5):
    return {"worth": score(rows(n), depth, lr), "depth": depth}

@step
def height(frame, depth: int) -> int:
    return frame.height * depth

@pipeline
def picked(depth: int, frame=latest("points")):
    return height(frame, depth)
"""
GRID: dict[str, Sequence[Any]] = {"depth": [4, 6, 8], "lr": [0.1, 0.01]}


@pytest.fixture
def app(tmp_path: Path) -> Any:
    (tmp_path / "sweep_flow.py").write_text(FLOW)
    (tmp_path / "book.txt").touch()
    opened = tidewheel.open(tmp_path / "home")
    yield opened
    opened.close()


def target(tmp_path: Path, name: str = "grown") -> str:
    return f"{tmp_path / 'sweep_flow.py'}:{name}"


def book(tmp_path: Path) -> list[str]:
    return (tmp_path / "book.txt").read_text().splitlines()


def test_points_are_ranked_and_fail_alone(app: App, tmp_path: Path) -> None:
    done = app.sweep(target(tmp_path), grid=GRID, by="worth.loss", jobs=2)
    assert [(point.parameters["depth"], point.parameters["lr"]) for point in done.points[:4]] == [
        (4, 0.01), (6, 0.01), (4, 0.1), (6, 0.1),
    ]  # fmt: skip
    assert (done.state, done.best.numbers["worth.loss"]) == ("FAILED", 0.04)
    assert [(point.state, point.numbers) for point in done.points[4:]] == [("FAILED", {}), ("FAILED", {})]
    assert all("too deep" in point.error for point in done.points[4:])
    assert sorted(book(tmp_path)).count("rows") <= 2  # shared by the cache; two may begin at the same moment
    runs = find_runs(app.store, Wanted(cause="sweep"))
    assert {run.id for run in runs} == {point.run_id for point in done.points}
    assert {run.cause["execution_id"] for run in runs} == {done.id}
    with app.store.database.reading() as tx:
        parent = get_execution(tx, done.id)
    assert (parent.kind, parent.state, parent.facets["points"]) == ("sweep", "FAILED", 6)


def test_again_it_goes_on_with_what_is_not_done(app: App, tmp_path: Path) -> None:
    first = app.sweep(target(tmp_path), grid=GRID, jobs=1)
    before = book(tmp_path)
    (tmp_path / "mended").touch()
    second = app.sweep(target(tmp_path), grid=GRID, by="worth.loss", largest=True, jobs=1)
    assert (second.id, second.state) == (first.id, "SUCCEEDED")
    assert {point.run_id for point in second.points} == {point.run_id for point in first.points}
    assert sorted(book(tmp_path)[len(before) :]) == ["score 8 0.01", "score 8 0.1"]
    assert second.best.parameters == {"depth": 8, "lr": 0.1}
    third = app.sweep(target(tmp_path), grid=GRID, jobs=2)
    assert third.id != second.id  # it was done: a new one, answered by the cache
    assert len(book(tmp_path)) == len(before) + 2


def test_points_that_are_done_with_other_code_are_not_answered(app: App, tmp_path: Path) -> None:
    pipeline = load_target(target(tmp_path))
    first = run_sweep(app.store, pipeline, {"depth": [4, 8]}, jobs=1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "sweep_flow.py").write_text(FLOW.replace("depth * lr", "depth + lr"))
    (tmp_path / "other" / "mended").touch()
    changed = load_target(f"{tmp_path / 'other' / 'sweep_flow.py'}:grown")
    second = run_sweep(app.store, changed, {"depth": [4, 8]}, jobs=1, ranking=Ranking(by="worth.loss"))
    assert second.id == first.id
    assert [point.numbers["worth.loss"] for point in second.points] == [4.5, 8.5]


def test_every_point_gets_the_same_version_of_an_input(app: App, tmp_path: Path) -> None:
    app.register("points", pl.DataFrame({"a": [1, 2]}))

    def grow(event: RunEvent) -> None:
        if event.state == "SUCCEEDED" and not event.step and len(app.datasets()[0].schema.columns) == 1:
            app.append("points", pl.DataFrame({"a": [3]}))

    done = run_sweep(app.store, load_target(target(tmp_path, "picked")), {"depth": [1, 2, 3]}, jobs=1, on_event=grow)
    assert [point.numbers[""] for point in done.points] == [2.0, 4.0, 6.0]


def test_an_interrupted_sweep_cancels_what_goes_on_and_can_be_gone_on_with(app: App, tmp_path: Path) -> None:
    seen: list[str] = []

    def stop(event: RunEvent) -> None:
        if event.state == "SUCCEEDED" and not event.step:
            seen.append(event.run_id)
            raise KeyboardInterrupt

    pipeline = load_target(target(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        run_sweep(app.store, pipeline, {"depth": [1, 2, 3]}, jobs=1, on_event=stop)
    assert seen
    done = run_sweep(app.store, pipeline, {"depth": [1, 2, 3]}, jobs=2)
    assert done.state == "SUCCEEDED"
    assert seen[0] in {point.run_id for point in done.points}


def test_one_process_at_a_time_works_on_a_sweep(app: App, tmp_path: Path) -> None:
    first = app.sweep(target(tmp_path), grid={"depth": [8]})
    holding, release = threading.Event(), threading.Event()

    def hold() -> None:
        with run_lock(app.store.home, first.id):
            holding.set()
            release.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert holding.wait(60)
    with pytest.raises(AlreadyRunning):
        app.sweep(target(tmp_path), grid={"depth": [8]})
    release.set()
    holder.join()


@pytest.mark.parametrize(
    ("grid", "hint"),
    [
        ({}, "0 points"),
        ({"depth": []}, "0 points"),
        ({"depth": [1, 1]}, "twice"),
        ({"depth": "12"}, "not a list"),
        ({"depth": range(101), "n": range(101)}, f"at most {MOST:,}"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(grid: Any, hint: str) -> None:
    with pytest.raises(InvalidInput, match=hint):
        grid_points(grid)


def test_nothing_runs_when_one_point_is_wrong(app: App, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="depth"):
        app.sweep(target(tmp_path), grid={"depth": [1, "x"]})
    with pytest.raises(NotFound, match="depth"):
        app.sweep(target(tmp_path), grid={"dept": [1]})
    with pytest.raises(InvalidInput, match="jobs=0"):
        app.sweep(target(tmp_path), grid={"depth": [1]}, jobs=0)
    assert book(tmp_path) == []
    with pytest.raises(NotFound, match=r"worth\.loss"):
        app.sweep(target(tmp_path), grid={"depth": [1]}, by="worth.los")


def test_a_sweep_shows_itself_in_a_notebook(app: App, tmp_path: Path) -> None:
    shown = app.sweep(target(tmp_path), grid={"depth": [4, 8]}, by="worth.loss")._repr_html_()
    assert "worth.loss" in shown
    assert "too deep" in shown


def test_sweeps_lists_and_graphs_are_the_same_on_every_database(any_store: Store, tmp_path: Path) -> None:
    (tmp_path / "sweep_flow.py").write_text(FLOW)
    (tmp_path / "book.txt").touch()
    pipeline = load_target(target(tmp_path))
    first = run_sweep(any_store, pipeline, GRID, jobs=2)
    (tmp_path / "mended").touch()
    second = run_sweep(any_store, pipeline, GRID, jobs=2, ranking=Ranking(by="worth.loss"))
    assert (first.id, first.state, second.state) == (second.id, "FAILED", "SUCCEEDED")
    assert [point.parameters["depth"] for point in second.points] == [4, 6, 8, 4, 6, 8]
    found = find_runs(
        any_store, Wanted(pipeline="grown", states=("SUCCEEDED",), parameters={"depth": "8"}, cause="sweep")
    )
    assert {run.id for run in found} == {point.run_id for point in second.points if point.parameters["depth"] == 8}
    run = get_run(any_store, found[0].id)
    assert [(arrow.src, arrow.dst, arrow.role) for arrow in wiring(any_store, run)] == [("rows", "score", "rows")]
