"""Pages of runs over a real store: list, filters, graph, times, values, logs, causes, JSON; texts stay texts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from starlette.applications import Starlette
from tests.web.outline import outline

import tidewheel
from tidewheel.errors import InvalidInput, NotFound, TidewheelError
from tidewheel.pipelines.runs import get_run
from tidewheel.project import App
from tidewheel.web.flow import MOST
from tidewheel.web.gather_runs import EACH, GROUP, read_run, read_runs
from tidewheel.web.render import Renderer
from tidewheel.web.run_records import Filters
from tidewheel.web.serve import create_app

Fetch = Callable[..., tuple[int, dict[str, str], str]]
EVIL = '"><script>document.title="broken"</script>'
FLOW = """
import polars as pl
from tidewheel import pipeline, step

@step
def clean(rows: pl.DataFrame) -> pl.DataFrame:
    print("cleaning", rows.height, '"><script>document.title="broken"</script>')
    return rows.drop_nulls()

@step
def split(rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    return rows.head(3), rows.tail(2)

@step
def fit(rows: pl.DataFrame, depth: int) -> dict[str, float]:
    return {"mean": rows["a"].mean() * depth}

@step
def judge(model: dict[str, float], rows: pl.DataFrame) -> float:
    if model["mean"] > 100:
        raise ValueError('"><script>document.title="broken"</script>')
    return model["mean"] - rows["a"].mean()

@pipeline
def small(rows: pl.DataFrame, depth: int = 2, note: str = ""):
    train, test = split(clean(rows))
    models = [fit(train, d) for d in (depth, depth + 1)]
    return {"worth": [judge(m, test) for m in models], "rows": train}

@step
def score(x: int) -> float:
    if x == 77:
        raise ValueError("item 77")
    return x * 0.5

@step
def total(values: list[float]) -> float:
    return sum(values)

@pipeline
def big(n: int = 10):
    return total(score.map(range(n)))

@pipeline
def nothing():
    return None
"""
ROWS = pl.DataFrame({"a": [1, 2, 3, 4, None, 6], EVIL: list("xyzuvw")})


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    (tmp_path / "run_flow.py").write_text(FLOW)
    opened = tidewheel.open(tmp_path / "home")
    yield opened
    opened.close()


@pytest.fixture
def run(app: App, tmp_path: Path) -> Callable[..., str]:
    """Run a pipeline of the flow, whatever comes of it, and return its id."""

    def start(name: str, **parameters: Any) -> str:
        with contextlib.suppress(TidewheelError):
            app.run(f"{tmp_path / 'run_flow.py'}:{name}", **parameters)
        return read_runs(app.store, Filters()).rows[0].id

    return start


def page(app: App) -> Starlette:
    return create_app(app.store)


def test_the_list_shows_what_fits_the_filters(app: App, run: Callable[..., str], fetch: Fetch) -> None:
    status, _, empty = fetch(page(app), "/runs")
    assert (status, "No run fits." in empty) == (200, True)
    good, bad, other = run("small", rows=ROWS), run("small", rows=ROWS, depth=90), run("nothing")

    def listed(query: str) -> list[str]:
        return [row["id"] for row in orjson.loads(fetch(page(app), f"/api/runs?{query}")[2])["rows"]]

    assert listed("") == [other, bad, good]
    assert listed("pipeline=small&state=failed") == [bad]
    assert listed("param=depth%3D2") == [good]
    assert listed("since=1h&cause=manual&limit=1") == [other]
    assert listed("pipeline=none") == []
    for query in ("state=done", "since=soon", "param=depth", "limit=0", "limit=x"):
        assert fetch(page(app), f"/api/runs?{query}")[0] == 400
    _, _, text = fetch(page(app), "/runs?pipeline=small")
    assert f'href="/runs/{bad}"' in text
    assert other not in text
    assert 'hx-get="/runs/now?pipeline=small"' in text


def test_a_run_is_shown_with_its_graph_values_and_reasons(app: App, run: Callable[..., str], fetch: Fetch) -> None:
    first = run("small", rows=ROWS, note=EVIL)
    second = run("small", rows=ROWS, depth=3, note=EVIL)
    for run_id in (first, second):
        shown = read_run(app.store, run_id)
        names = [node.name for node in shown.graph.nodes]
        arrows = {(names[src], names[dst]) for src, dst in shown.graph.arrows}
        assert arrows == {
            ("rows", "clean"), ("clean", "split"), ("split", "fit"), ("split", "fit-2"), ("split", "judge"),
            ("split", "judge-2"), ("fit", "judge"), ("fit-2", "judge-2"),
        }  # fmt: skip
        assert [node.layer for node in shown.graph.nodes] == [0, 1, 2, 3, 3, 4, 4]
    again = read_run(app.store, second, "fit-2")
    assert [row.state for row in again.steps] == ["CACHED", "CACHED", "CACHED", "COMMITTED", "CACHED", "COMMITTED"]
    assert all(0 <= row.begins <= 1 and 0 <= row.lasts <= 1 - row.begins + 1e-9 for row in again.steps)
    assert again.shown is not None
    assert [(piece.name, piece.rows[0][0]) for piece in again.shown.inputs if piece.rows] == [("rows, from split", "1")]
    assert [piece.text for piece in again.shown.inputs if not piece.rows] == ["4"]
    status, _, text = fetch(page(app), f"/runs/{second}?step=fit-2")
    assert status == 200
    for words in (f"tidewheel reproduce {second}", "answered by", "5 rows", "6 rows, 2 columns", "manual", "Python"):
        assert words in text or words == "5 rows"
    assert "hx-get" not in text  # it has ended, and does not change any more


def test_a_failed_run_shows_what_went_wrong_and_the_log(app: App, run: Callable[..., str], fetch: Fetch) -> None:
    failed = run("small", rows=ROWS, depth=90)
    shown = read_run(app.store, failed, "judge")
    assert shown.shown is not None
    assert shown.shown.state == "FAILED"
    assert any("raise ValueError" in line for line in shown.shown.log)
    assert read_run(app.store, failed, "clean").shown.log[0].startswith("cleaning 6")  # type: ignore[union-attr]
    assert "2 failed" in fetch(page(app), f"/runs/{failed}")[2]
    assert shown.causes[0].startswith("manual")


def test_the_cause_of_a_point_leads_to_its_sweep(app: App, tmp_path: Path) -> None:
    done = app.sweep(f"{tmp_path / 'run_flow.py'}:big", grid={"n": [2, 3]})
    causes = read_run(app.store, done.points[0].run_id).causes
    assert causes[0] == "sweep: n=2"
    assert causes[1].startswith(f"sweep big ({done.id[-12:]})")


def test_texts_of_users_never_become_markup(app: App, run: Callable[..., str], fetch: Fetch) -> None:
    good, bad = run("small", rows=ROWS, note=EVIL), run("small", rows=ROWS, depth=90, note=EVIL)
    for path in ("/runs", "/runs/now", f"/runs/{good}?step=clean", f"/runs/{bad}?step=judge", f"/runs/{bad}/now"):
        status, _, text = fetch(page(app), path)
        parsed = outline(text)
        assert status == 200
        assert (parsed.mistakes, parsed.open) == ([], [])
        ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        sources = {attributes.get("src") for tag, attributes in parsed.tags if tag == "script"}
        assert sources <= {"/vendor/htmx/htmx.min.js", "/static/live.js"}
        assert not any("style" in attributes for _, attributes in parsed.tags)  # forbidden by the headers


def test_many_calls_are_grouped_and_those_that_failed_come_first(app: App, run: Callable[..., str]) -> None:
    shown = read_run(app.store, run("big", n=200), "score")
    assert [(row.name, row.calls) for row in shown.steps] == [("score", 200), ("total", 1)]
    assert [(node.name, node.calls) for node in shown.graph.nodes] == [("score", 200), ("total", 1)]
    assert shown.steps[0].counts.startswith("1 failed, ")
    assert (shown.group[0].name, len(shown.group)) == ("score-78", GROUP)
    assert len(shown.steps) < MOST < EACH
    assert read_run(app.store, shown.run.id, "score-78").shown.error.startswith("ValueError: item 77")  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_map_of_ten_thousand_is_a_small_page(app: App, run: Callable[..., str]) -> None:
    run_id = run("big", n=10_000)
    text = Renderer(refresh_seconds=2).run(read_run(app.store, run_id, "score"), whole=True, step="score")
    assert "x 10,000" in text
    assert len(text) < 150_000
    assert len(get_run(app.store, run_id).steps) >= 10_000


def test_runs_and_steps_that_are_not_there_are_named(app: App, run: Callable[..., str], fetch: Fetch) -> None:
    known = run("nothing")
    assert "takes no parameters" in fetch(page(app), f"/runs/{known}")[2]
    for path in ("/runs/0123abcd", "/runs/0", "/api/runs/0123abcd", f"/runs/{known}?step=fit"):
        assert fetch(page(app), path)[0] == 404
    with pytest.raises(NotFound):
        read_run(app.store, known, "fit")
    with pytest.raises(InvalidInput):
        read_runs(app.store, Filters(param="depth"))


def test_the_twin_of_a_run_says_the_same(app: App, run: Callable[..., str], fetch: Fetch) -> None:
    run_id = run("small", rows=ROWS)
    status, headers, text = fetch(page(app), f"/api/runs/{run_id}?step=judge")
    assert (status, headers["content-type"]) == (200, "application/json")
    document = orjson.loads(text)
    assert document["run"]["state"] == "SUCCEEDED"
    assert document["shown"]["name"] == "judge"
    assert [step["name"] for step in document["steps"]] == ["clean", "split", "fit", "fit-2", "judge", "judge-2"]
