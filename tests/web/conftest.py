"""States of a loop as the page would read them: nothing at all, a quiet one, and one with everything going on."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from starlette.applications import Starlette
from starlette.types import Message, Scope

from tidewheel.web.records import (
    AlertLine,
    Chart,
    DecisionLine,
    Evidence,
    LoopLine,
    LoopState,
    Mark,
    Point,
    Reign,
    RolloutLine,
    RunLine,
    Status,
    TrafficLine,
    TriggerLine,
    VersionLine,
)

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
WINDOWS = 48


def before(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


def accuracy(window: int) -> float:
    """Fall twice as new writers come, and rise again after each promotion."""
    since = window % 17
    return 0.95 - 0.009 * since + 0.006 * math.sin(window * 1.9)


def points(values: list[float | None]) -> tuple[Point, ...]:
    return tuple(
        Point(at=before(2 * (len(values) - index)), value=value, note=f"window {index + 1}")
        for index, value in enumerate(values)
    )


def chart(
    name: str, title: str, values: list[float | None], *, limit: float | None = None, unit: str = "percent"
) -> Chart:
    return Chart(
        id=name,
        title=title,
        unit="percent" if unit == "percent" else "ms" if unit == "ms" else "number",
        points=points(values),
        limit=limit,
        limit_name="limit" if limit is not None else "",
        zero=name != "performance",
    )


def run(number: int, state: str, cause: str, *, minutes: float, took: float | None, error: str = "") -> RunLine:
    return RunLine(
        id=f"0196a1b2-0000-7000-8000-0000004caf{number:02d}",
        pipeline="digits",
        state=state,
        cause=cause,
        started=before(minutes),
        ended=before(minutes) + timedelta(seconds=took) if took is not None else None,
        steps_done=2,
        error=error,
    )


def version(seq: int, *aliases: str, minutes: float, score: float) -> VersionLine:
    return VersionLine(
        seq=seq,
        aliases=aliases,
        metrics={"accuracy": score, "log_loss": 0.2 + (1 - score), "macro_f1": score - 0.004},
        at=before(minutes),
        run_id=f"0196a1b2-0000-7000-8000-0000004caf{seq:02d}",
    )


@pytest.fixture
def empty() -> Status:
    return Status(at=NOW, home=".tidewheel", loops=(), shown=None)


QUIET = LoopState(
    model="bikes",
    pipeline="",
    doing="watching",
    activity="empty",
    running=(),
    traffic=None,
    rollout=None,
    triggers=(TriggerLine(kind="cron", rule="every day at 03:00 UTC"),),
    alerts=(),
    charts=(),
    marks=(),
    reigns=(),
    runs=(),
    versions=(),
    decisions=(),
)


@pytest.fixture
def quiet() -> Status:
    """A loop that has been declared and has not turned yet."""
    return Status(at=NOW, home=".tidewheel", loops=(LoopLine(model="bikes", activity="empty", alerts=0),), shown=QUIET)


def charts() -> tuple[Chart, ...]:
    scores: list[float | None] = [accuracy(index) for index in range(WINDOWS)]
    scores[20] = None
    drift: list[float | None] = [0.04 + 0.012 * (index % 17) for index in range(WINDOWS)]
    return (
        chart("performance", "Accuracy", scores, limit=0.9),
        chart("psi", "Drift (largest PSI)", drift, limit=0.2, unit="number"),
        chart("errors", "Error rate", [0.0 if index % 9 else 0.004 for index in range(WINDOWS)]),
        chart("latency", "Latency (p99)", [2.4 + math.sin(index) for index in range(WINDOWS)], unit="ms"),
    )


ROLLOUT = RolloutLine(
    challenger=5,
    steps=(0.05, 0.25, 1.0),
    step=1,
    since=before(6),
    requests=412,
    evidence=(
        Evidence(name="fails more often", guard=True, value=0.2, limit=3.69),
        Evidence(name="predicts worse", guard=True, value=-1.2, limit=3.69),
        Evidence(name="fails no more often", guard=False, value=4.1, limit=2.996),
        Evidence(name="predicts no worse", guard=False, value=2.1, limit=2.996),
    ),
    verdict="Gathering evidence",
)
ALERTS = (
    AlertLine(kind="drift", opened=before(3), evidence="PSI of pixel_3_4 is 0.31 in 2 windows, limit 0.2"),
    AlertLine(kind="decay", opened=before(9), evidence="accuracy is 0.81, it was 0.95 when version 3 was judged"),
)
MARKS = (
    Mark(at=before(64), kind="retrained", label="", note="Retrained because of drift."),
    Mark(at=before(61), kind="promoted", label="v2", note="Version 2 was promoted."),
    Mark(at=before(31), kind="retrained", label="", note="Retrained because of decay."),
    Mark(at=before(28), kind="promoted", label="v3", note="Version 3 was promoted."),
    Mark(at=before(16), kind="refused", label="", note="A candidate was refused: accuracy is lower."),
    Mark(at=before(10), kind="rolled back", label="v4", note="Version 4 was rolled back: errors."),
)
RUNS = (
    run(9, "RUNNING", "drift: psi of pixel_3_4 was 0.31", minutes=0.4, took=None),
    run(8, "SUCCEEDED", "decay: accuracy fell by 0.12", minutes=8, took=41),
    run(7, "FAILED", "new data: 500 rows", minutes=17, took=3, error="fit: labels hold one class only (3)"),
    run(6, "SUCCEEDED", "manual", minutes=95, took=38),
)
BUSY = LoopState(
    model="digits",
    pipeline="digits",
    doing="retraining because drift: psi of pixel_3_4 was 0.31",
    activity="deciding",
    running=RUNS[:1],
    traffic=TrafficLine(
        champion=3, challenger=5, share=0.25, paired=True, since=before(2), reason="step 2 of 3: no harm seen"
    ),
    rollout=ROLLOUT,
    triggers=(TriggerLine(kind="drift", rule="psi above 0.2 in 2 windows"),),
    alerts=ALERTS,
    charts=charts(),
    marks=MARKS,
    reigns=(
        Reign(seq=1, begins=before(95), ends=before(61)),
        Reign(seq=2, begins=before(61), ends=before(28)),
        Reign(seq=3, begins=before(28), ends=None),
    ),
    runs=RUNS,
    versions=(
        version(5, "challenger", minutes=7, score=0.947),
        version(4, minutes=12, score=0.93),
        version(3, "champion", minutes=30, score=0.951),
        version(2, minutes=62, score=0.949),
        version(1, minutes=95, score=0.96),
    ),
    decisions=(
        DecisionLine(at=before(0.4), text="drift fired: psi of pixel_3_4 was 0.31"),
        DecisionLine(at=before(10), text="version 4 rolled back: 11 of 204 requests failed, 0 of 206 of the champion"),
        DecisionLine(at=before(16), text="gates refused the candidate: accuracy 0.88, champion 0.93"),
    ),
)


@pytest.fixture
def busy() -> Status:
    """A canary is being judged while a run is under way and two alerts are open."""
    loops = (
        LoopLine(model="bikes", activity="watching", alerts=0),
        LoopLine(model="digits", activity="deciding", alerts=2),
    )
    return Status(at=NOW, home=".tidewheel", loops=loops, shown=BUSY)


@pytest.fixture
def hostile(busy: Status) -> Status:
    """Every text that a user can choose tries to become markup."""
    evil = '"><script>document.title="broken"</script><img src=x onerror=alert(1)>'
    state = busy.shown
    if state is None:
        pytest.fail("the busy state shows a loop")
    return replace(
        busy,
        home=evil,
        loops=(LoopLine(model=evil, activity="deciding", alerts=1), *busy.loops),
        shown=replace(
            state,
            model=evil,
            pipeline=evil,
            doing=evil,
            traffic=replace(state.traffic, reason=evil) if state.traffic else None,
            rollout=replace(
                state.rollout, verdict=evil, evidence=(Evidence(name=evil, guard=True, value=1.0, limit=2.0),)
            )
            if state.rollout
            else None,
            triggers=(TriggerLine(kind=evil, rule=evil),),
            alerts=(AlertLine(kind=evil, opened=NOW, evidence=evil),),
            charts=tuple(
                replace(item, title=evil, limit_name=evil, points=tuple(replace(p, note=evil) for p in item.points))
                for item in state.charts
            ),
            marks=tuple(replace(mark, note=evil, label=evil) for mark in state.marks),
            runs=tuple(replace(line, cause=evil, error=evil, id=evil) for line in state.runs),
            versions=tuple(replace(line, aliases=(evil,), metrics={evil: 1.0}, run_id=evil) for line in state.versions),
        ),
    )


Fetch = Callable[[Starlette, str, str], tuple[int, dict[str, str], str]]


@pytest.fixture
def fetch() -> Fetch:
    """Call an application without a socket: (app, path with query, method) to (status, headers, text)."""

    def call(app: Starlette, target: str, method: str = "GET") -> tuple[int, dict[str, str], str]:
        path, _, query = target.partition("?")
        sent: list[Message] = []

        asked: list[bool] = []

        async def receive() -> Message:
            if asked:
                await asyncio.Event().wait()  # the client stays until it has its answer
            asked.append(True)
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        scope: Scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(b"host", b"testserver")], "client": ("127.0.0.1", 1), "server": ("testserver", 80),
        }  # fmt: skip
        with contextlib.suppress(ZeroDivisionError):  # the server logs what an application raises after its answer
            asyncio.run(app(scope, receive, send))
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]).decode()

    return call
