"""Outcomes meet their predictions exactly once, in whatever order both come."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidewheel.predictions.compact import compact
from tidewheel.predictions.join import Joiner, LabelledRow
from tidewheel.predictions.log import LogWriter
from tidewheel.predictions.records import Label, Outcome, Prediction


class Log:
    """Both logs of one folder, written record by record."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._predictions = LogWriter(folder, "w0", segment_bytes=2_000)
        self._outcomes = LogWriter(folder, "w0", kind=Outcome, segment_bytes=400)

    def predict(self, request: str, rows: int = 1, status: int = 200, version: int = 1) -> None:
        features = [[float(row)] for row in range(rows)]
        output = [0.0] * rows if status == 200 else []
        self._predictions.append(
            Prediction(
                id=request,
                at=0,
                model="m",
                version=version,
                arm="champion",
                propensity=1.0,
                unit="",
                status=status,
                features=features,
                output=output,
            )
        )
        self._predictions.flush()

    def sync(self) -> None:
        """Let go of ended segments."""
        self._predictions.sync()
        self._outcomes.sync()

    def bring(self, row: str, label: Label = 1) -> None:
        self._outcomes.append(Outcome(id=row, at=0, label=label))
        self._outcomes.flush()


def pairs(rows: list[LabelledRow]) -> list[tuple[str, Label]]:
    return [(row.id, row.label) for row in rows]


def test_rows_come_in_the_order_of_their_outcomes(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.predict("a")
    log.predict("b", rows=2)
    log.bring("b/1", "x")
    log.bring("a", "y")
    log.bring("b/0", "z")
    found = Joiner(tmp_path).labelled()
    assert pairs(found.rows) == [("b/1", "x"), ("a", "y"), ("b/0", "z")]
    assert [row.prediction.features[row.row] for row in found.rows] == [[1.0], [0.0], [0.0]]


def test_the_first_outcome_of_a_row_counts(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.predict("a")
    for label in (1, 2, 3):
        log.bring("a", label)
    log.bring("a/0", 4)  # the only row by its long name
    found = Joiner(tmp_path).labelled()
    assert (pairs(found.rows), found.duplicates) == ([("a", 1)], 3)


def test_an_early_outcome_waits_for_its_prediction(tmp_path: Path) -> None:
    log, joiner = Log(tmp_path), Joiner(tmp_path)
    log.bring("a", "early")
    first = joiner.labelled()
    assert (first.rows, first.orphans) == ([], 1)
    log.predict("a")
    second = joiner.labelled(first.cursor)
    assert (pairs(second.rows), second.orphans) == ([("a", "early")], 0)
    assert joiner.labelled(second.cursor).rows == []


def test_unknown_rows_stay_orphans(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.predict("many", rows=2)
    log.predict("refused", status=422)
    for row in ("many", "many/2", "many/-1", "refused", "nobody", "many/01x", "/", "many/99999999999999999999"):
        log.bring(row)
    found = Joiner(tmp_path).labelled()
    assert (found.rows, found.orphans) == ([], 8)


def test_an_answer_counts_not_the_failure_before_it(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.predict("a", status=500, version=2)
    log.predict("a", version=1)
    log.predict("a", version=3)  # the caller used the id again
    log.bring("a")
    assert [row.prediction.version for row in Joiner(tmp_path).labelled().rows] == [1]


def test_another_process_goes_on_from_a_stored_cursor(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.predict("a")
    log.bring("a", 1)
    log.bring("late", 2)
    cursor = Joiner(tmp_path).labelled().cursor
    log.predict("late")
    log.bring("a", 9)
    found = Joiner(tmp_path).labelled(cursor)
    assert (pairs(found.rows), found.duplicates) == ([("late", 2)], 1)


def test_a_joiner_goes_back_to_an_older_cursor(tmp_path: Path) -> None:
    """A transaction that stored the cursor was rolled back: the same rows must come again."""
    log, joiner = Log(tmp_path), Joiner(tmp_path)
    log.predict("a")
    log.bring("a")
    first = joiner.labelled({})
    assert joiner.labelled({}) == first


CHILD = """
import resource, sys
from pathlib import Path
from tidewheel.predictions.join import Joiner
from tidewheel.predictions.log import LogWriter
from tidewheel.predictions.records import Outcome, Prediction

folder, count = Path(sys.argv[1]) / sys.argv[2], int(sys.argv[2])
log, truth = LogWriter(folder, "w0"), LogWriter(folder, "w0", kind=Outcome)
for number in range(count):
    log.append(Prediction(id=f"request-of-a-caller-{number}", at=0, model="m", version=1, arm="champion",
                          propensity=1.0, unit="", status=200, features=[[0.5] * 4], output=[1.0]))
    truth.append(Outcome(id=f"request-of-a-caller-{number * 7 % count}", at=0, label=1))
    if number % 100 == 99:
        log.flush(), truth.flush()
joiner, cursor, rows, more = Joiner(folder), {}, 0, True
while more:
    found = joiner.labelled(cursor, limit=500)
    cursor, more, rows = found.cursor, found.more, rows + len(found.rows)
assert rows == count, rows
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("predict"), st.sampled_from("abcd"), st.integers(1, 3)),
        st.tuples(st.just("bring"), st.sampled_from(["a", "b", "c/0", "c/1", "d", "d/2", "e"]), st.integers(0, 9)),
        st.tuples(st.just("look"), st.sampled_from(["same", "fresh"]), st.just(0)),
    ),
    max_size=30,
)


@settings(deadline=None, max_examples=60)
@given(EVENTS)
def test_looking_often_brings_the_same_rows_as_looking_once(events: list[tuple[str, str, int]]) -> None:
    with TemporaryDirectory() as folder:
        log, joiner = Log(Path(folder)), Joiner(Path(folder))
        cursor: dict[str, int] = {}
        found: list[LabelledRow] = []
        known: dict[str, int] = {}
        for verb, name, number in (*events, ("look", "fresh", 0)):
            if verb == "predict":
                known.setdefault(name, number)
                log.predict(name, rows=known[name])
            elif verb == "bring":
                log.bring(name, number)
            else:
                joiner = joiner if name == "same" else Joiner(Path(folder))
                look = joiner.labelled(cursor)
                cursor = look.cursor
                found += look.rows
        once = Joiner(Path(folder)).labelled()
    assert sorted(pairs(found)) == sorted(pairs(once.rows))
    assert len({row.id for row in found}) == len(found)
    assert (look.duplicates, look.orphans) == (once.duplicates, once.orphans)


@settings(deadline=None, max_examples=40)
@given(EVENTS, st.lists(st.integers(1, 3), min_size=1, max_size=5), st.booleans())
def test_small_looks_at_a_compacted_log_bring_the_same_rows(
    events: list[tuple[str, str, int]], limits: list[int], fresh: bool
) -> None:
    """However the outcomes are cut, and wherever records stand: late, twice, too early, out of order."""
    with TemporaryDirectory() as folder:
        place = Path(folder)
        log, known = Log(place), dict[str, int]()
        for verb, name, number in events:
            if verb == "predict":
                known.setdefault(name, number)
                log.predict(name, rows=known[name])
            elif verb == "bring":
                log.bring(name, number)
            else:
                log.sync()
        once = Joiner(place).labelled()
        compact(place, now=datetime(2026, 1, 1, tzinfo=UTC))
        joiner, cursor, rows = Joiner(place), dict[str, int](), list[LabelledRow]()
        for turn in range(len(events) + 1):
            joiner = Joiner(place) if fresh else joiner
            look = joiner.labelled(cursor, limit=limits[turn % len(limits)])
            cursor, rows = look.cursor, rows + look.rows
        assert not look.more
        assert sorted(pairs(rows)) == sorted(pairs(once.rows))
        assert (look.duplicates, look.orphans) == (once.duplicates, once.orphans)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    """What is known of a hundred thousand requests stands in a file, but for the cache of a few megabytes."""
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    small, large = (
        int(subprocess.run([*command, str(count)], capture_output=True, check=True).stdout) for count in (2_000, 60_000)
    )
    assert large - small < 40_000, (small, large)  # KiB; an index in memory takes twice that
