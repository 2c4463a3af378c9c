"""One look: what fires, what waits, what is written, and what is not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest

from tidewheel.clock import ManualClock
from tidewheel.data import datasets
from tidewheel.errors import InvalidInput, NotFound
from tidewheel.lineage.read import get_execution, list_events, list_executions
from tidewheel.lineage.store import Store
from tidewheel.pipelines.approvals import answer_question
from tidewheel.pipelines.runs import get_run, list_runs
from tidewheel.pipelines.transitions import RunState
from tidewheel.pipelines.why import why
from tidewheel.triggers import Policy, Schedule, absent, cron, event, every, manual, new_data, webhook
from tidewheel.triggers.monitored import drift
from tidewheel.triggers.state import list_states, load_state, rearm
from tidewheel.triggers.tick import TickReport, tick

BEGIN = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
Book = Callable[[], list[str]]


def go(store: Store, **passed: float) -> None:
    assert isinstance(store.clock, ManualClock)
    store.clock.advance(timedelta(**passed))


def make(project: ModuleType, *on: Any, **options: Any) -> Schedule:
    settings: dict[str, Any] = {"name": "books", "parameters": {"due": event("due", "no clock")}}
    return Schedule(project.keep_books, on=on, **(settings | options))


def verdicts(found: list[TickReport]) -> list[str]:
    return [report.verdict for report in found]


def test_a_due_time_starts_a_run_that_knows_its_cause(any_store: Store, project: ModuleType, book: Book) -> None:
    schedule = make(project, cron("0 * * * *"))
    assert verdicts(tick(any_store, [schedule])) == ["quiet"]
    go(any_store, hours=1)
    (report,) = tick(any_store, [schedule])
    assert report.verdict == "fired"
    assert book() == ["2026-01-01T01:00:00+00:00"]
    run = get_run(any_store, report.run_id)
    assert (run.state, run.cause["trigger"], run.cause["kind"]) == ("SUCCEEDED", "books", "cron")
    told = "\n".join(why(any_store, run.id).lines())
    assert "scheduled for 2026-01-01 01:00 UTC" in told
    assert report.tick_id in told
    with any_store.database.reading() as tx:
        look = get_execution(tx, report.tick_id)
        edges = tx.rows("SELECT dst FROM edge WHERE src = :run AND relation = 'triggered_by'", run=run.id)
    assert (look.kind, look.job, look.state, look.facets["run"]) == ("tick", "books", "FIRED", run.id)
    assert look.facets["tree"] == {
        "rule": "cron(0 * * * * UTC)",
        "holds": True,
        "reason": "scheduled for 2026-01-01 01:00 UTC",
    }
    assert [edge["dst"] for edge in edges] == [report.tick_id]
    assert verdicts(tick(any_store, [schedule])) == ["quiet"]


def test_what_does_not_fire_fills_nothing(store: Store, project: ModuleType, book: Book) -> None:
    schedule = make(project, cron("0 0 * * *") | every("10h"))
    for _ in range(200):
        tick(store, [schedule])
        go(store, seconds=7)
    with store.database.reading() as tx:
        assert list_executions(tx, "tick") == []
        assert list_events(tx) == []
        state = load_state(tx, "books")
    assert state is not None
    assert state.revision < 5
    assert (state.verdict["verdict"], [part["holds"] for part in state.verdict["tree"]["parts"]]) == (
        "quiet",
        [False, False],
    )


def test_a_refusal_is_written_once_for_each_cause_and_rule(store: Store, project: ModuleType, book: Book) -> None:
    schedule = make(project, every("1h"), policy=Policy(cooldown="150m", max_per_day=2, tz="Europe/Paris"))
    found = []
    for _ in range(40):
        found += [report.verdict for report in tick(store, [schedule])]
        go(store, minutes=15)
    assert found.count("fired") == 2
    with store.database.reading() as tx:
        ticks = list_executions(tx, "tick", job="books", state="REFUSED")
        rules = [look.facets["policy"] for look in reversed(ticks)]
    assert rules[:2] == ["cooldown", "cooldown"]
    assert set(rules[2:]) == {"budget", "cooldown"}
    assert len({(look.facets["key"], look.facets["policy"]) for look in ticks}) == len(ticks)


def test_the_budget_is_that_of_the_day_in_its_zone(store: Store, project: ModuleType, book: Book) -> None:
    schedule = make(project, every("1h"), policy=Policy(max_per_day=1, tz="Asia/Kathmandu"))  # midnight: 18:15 UTC
    fired = []
    for _ in range(30):
        fired += [store.clock.now() for report in tick(store, [schedule]) if report.verdict == "fired"]
        go(store, hours=1)
    assert [moment.hour for moment in fired] == [1, 19]


def test_one_at_a_time_waits_for_the_run_before(store: Store, project: ModuleType, book: Book) -> None:
    schedule = make(project, cron("0 * * * *", missed="all"))
    tick(store, [schedule])
    go(store, hours=3)
    assert verdicts(tick(store, [schedule], works=False)) == ["fired", "refused"]
    assert verdicts(tick(store, [schedule])) == ["refused"]  # this one did the run
    assert verdicts(tick(store, [schedule])) == ["fired", "refused"]
    assert verdicts(tick(store, [schedule])) == ["fired"]
    assert [line[11:13] for line in book()] == ["01", "02", "03"]


def test_debounce_waits_until_nothing_has_come_for_so_long(store: Store, project: ModuleType, book: Book) -> None:
    rows = pl.DataFrame({"a": [1.0, 2.0]})
    datasets.register(store, "events", rows)
    schedule = make(project, new_data("events"), policy=Policy(debounce="30m"))
    tick(store, [schedule])
    found = []
    for minute in range(0, 60, 10):
        if minute in (0, 20):
            datasets.append(store, "events", pl.DataFrame({"a": [float(minute)]}))
        found += verdicts(tick(store, [schedule]))
        go(store, minutes=10)
    assert found == ["refused"] * 5 + ["fired"]


def test_new_data_that_is_quiet(store: Store, project: ModuleType, book: Book) -> None:
    schedule = make(project, new_data("events", rows=3, quiet="10m"))
    assert "no dataset events yet" in tick(store, [schedule])[0].reason
    datasets.register(store, "events", pl.DataFrame({"a": [1.0, 2.0]}))
    assert "2 new rows in events since the last run, 3 asked" in tick(store, [schedule])[0].reason
    datasets.append(store, "events", pl.DataFrame({"a": [3.0, 4.0]}))
    assert "not been quiet for 10m" in tick(store, [schedule])[0].reason
    go(store, minutes=10)
    (report,) = tick(store, [schedule])
    assert (report.verdict, report.reason) == ("fired", "4 new rows in events since the last run")
    datasets.append(store, "events", pl.DataFrame({"a": [5.0, 6.0]}))
    go(store, minutes=10)
    assert verdicts(tick(store, [schedule])) == ["quiet"]


def test_silence_starts_one_run(store: Store, project: ModuleType, book: Book) -> None:
    schedule = make(project, absent("events", "26h"))
    found = []
    for hour in range(0, 120, 2):
        if hour == 40:
            datasets.register(store, "events", pl.DataFrame({"a": [1.0]}))
        found += [hour for report in tick(store, [schedule]) if report.verdict == "fired"]
        go(store, hours=2)
    assert found == [26, 66]


def test_a_combination_fires_when_all_of_it_holds(store: Store, project: ModuleType, book: Book) -> None:
    datasets.register(store, "events", pl.DataFrame({"a": [1.0]}))
    schedule = make(project, cron("0 * * * *") & new_data("events", rows=2))
    tick(store, [schedule])
    go(store, hours=2)
    (report,) = tick(store, [schedule])
    assert [(part["rule"], part["holds"]) for part in report.tree["parts"]] == [
        ("cron(0 * * * * UTC)", True),
        ("new_data(events, 2)", False),
    ]
    datasets.append(store, "events", pl.DataFrame({"a": [2.0, 3.0]}))
    (report,) = tick(store, [schedule])
    assert report.reason == "scheduled for 2026-01-01 02:00 UTC and 2 new rows in events since the last run"
    go(store, hours=1)
    assert verdicts(tick(store, [schedule])) == ["quiet"]


def test_a_schedule_that_is_rearmed_begins_anew(any_store: Store, project: ModuleType, book: Book) -> None:
    schedule = make(project, cron("0 * * * *", missed="all"), policy=Policy(one_at_a_time=False))
    tick(any_store, [schedule])
    begin = any_store.clock.now()
    go(any_store, hours=2)
    tick(any_store, [schedule])
    assert rearm(any_store, "books").epoch == 2
    assert verdicts(tick(any_store, [schedule])) == ["quiet"]
    rearm(any_store, "books", since=begin)
    assert verdicts(tick(any_store, [schedule])) == ["fired", "fired"]
    assert [line[11:13] for line in book()] == ["01", "02", "01", "02"]
    with pytest.raises(NotFound, match="Did you mean 'books'"):
        rearm(any_store, "boks")


def test_a_run_whose_process_dies_is_taken_up_by_the_next(store: Store, project: ModuleType, book: Book) -> None:
    import subprocess
    import sys

    from tidewheel.app import open_store
    from tidewheel.settings import Settings

    code = (
        "import sys; from pathlib import Path; from tidewheel.app import open_store;"
        "from tidewheel.settings import Settings; from tidewheel.pipelines.target import load_target;"
        "from tidewheel.triggers import Schedule, every; from tidewheel.triggers.work import work;"
        "file, home = sys.argv[1:]; mortal = load_target(file + ':mortal');"
        "store = open_store(Settings(home=Path(home)));"
        "work(store, [Schedule(mortal, on=[every('1h')], name='mortal')])"
    )
    schedule = Schedule(project.mortal, on=[every("1h")], name="mortal")
    tick(store, [schedule])
    go(store, hours=1)
    (report,) = tick(store, [schedule], works=False)
    assert get_run(store, report.run_id).state == RunState.QUEUED
    command = [sys.executable, "-c", code, str(Path(__file__).with_name("schedule_steps.py")), str(store.home)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    tick(store, [schedule])
    run = get_run(store, report.run_id)
    assert (run.state, run.resumed, len(book())) == ("SUCCEEDED", 1, 1)
    del open_store, Settings


def test_a_run_that_waits_for_people_holds_up_nobody_and_goes_on_when_it_is_answered(
    any_store: Store, project: ModuleType, book: Book
) -> None:
    policy = Policy(one_at_a_time=False)
    asking = Schedule(project.asking, on=[every("1h")], parameters={"due": event("due")}, policy=policy)
    both = [asking, Schedule(project.keep_books, on=[every("1h")], name="books", parameters={"due": event("due")})]
    tick(any_store, both)
    go(any_store, hours=1)
    tick(any_store, both)
    (left,) = list_runs(any_store, pipeline="asking")
    assert (left.state, len(book())) == ("WAITING", 1)
    go(any_store, minutes=1)
    tick(any_store, both)
    assert get_run(any_store, left.id).resumed == 0, "nothing was answered yet"
    answer_question(any_store, left.id, by="ann", granted=True)
    tick(any_store, both)
    assert (get_run(any_store, left.id).state, book()[-1][-4:]) == ("SUCCEEDED", "True")
    for _ in range(3):  # nobody answers the next one within two hours
        go(any_store, hours=1)
        tick(any_store, [asking])
    states = [run.state for run in reversed(list_runs(any_store, pipeline="asking"))]
    assert (states, book()[-1][-5:]) == (["SUCCEEDED", "SUCCEEDED", "WAITING", "WAITING"], "False")


def test_a_run_that_fails_frees_its_schedule(store: Store, project: ModuleType, book: Book) -> None:
    schedule = Schedule(project.failing, on=[every("1h")], name="failing")
    tick(store, [schedule])
    for _ in range(2):
        go(store, hours=1)
        tick(store, [schedule])
    assert [run.state for run in list_runs(store, pipeline="failing")] == ["FAILED", "FAILED"]


def test_a_run_that_cannot_begin_is_ended_with_the_reason(store: Store, project: ModuleType, book: Book) -> None:
    schedule = Schedule(
        project.keep_books, on=[every("1h")], name="odd", parameters={"paths": event("due")}
    )  # text where a list is asked
    tick(store, [schedule])
    go(store, hours=1)
    tick(store, [schedule])
    (run,) = list_runs(store, pipeline="keep_books")
    assert run.state == "CANCELLED"
    assert run.error is not None
    assert "paths=" in run.error


def test_a_schedule_that_cannot_look_says_why_and_the_others_go_on(
    store: Store, project: ModuleType, book: Book
) -> None:
    stuck = make(project, webhook("ci", secret="NO_SUCH_SECRET"), name="stuck")
    found = tick(store, [stuck, make(project, every("1h"))])
    assert verdicts(found) == ["trouble", "quiet"]
    assert "NO_SUCH_SECRET" in found[0].reason
    with store.database.reading() as tx:
        kept = {state.name: state.verdict["verdict"] for state in list_states(tx)}
    assert kept == {"books": "quiet", "stuck": "trouble"}


@pytest.mark.parametrize(
    ("on", "options", "hint"),
    [
        ([], {}, "has no trigger"),
        (["cron"], {}, "is no trigger"),
        ([manual()], {}, "tidewheel run"),
        ([new_data(5)], {}, "does not say of what"),
        ([drift()], {}, "does not say of what"),
        ([every("1h")], {"name": "two words"}, "no space"),
        ([every("1h")], {"attempts": 0}, "1 or more"),
        ([every("1h")], {"parameters": {"duee": 1}}, "duee"),
        ([webhook("ci", secret="A"), webhook("ci", secret="B")], {}, "two secrets"),
    ],
)
def test_a_schedule_that_cannot_work_is_refused(
    project: ModuleType, on: list[Any], options: dict[str, Any], hint: str
) -> None:
    with pytest.raises((InvalidInput, NotFound), match=hint):
        make(project, *on, **options)


@pytest.mark.parametrize(
    ("make_policy", "hint"),
    [
        (lambda: Policy(max_per_day=0), "1 or more"),
        (lambda: Policy(cooldown="soon"), "90s"),
        (lambda: Policy(tz="Mars/Olympus"), "not a time zone"),
        (lambda: webhook("ci", secret=""), "anybody could"),
        (lambda: absent(webhook("ci", secret="A"), "31d"), "kept for 30 days"),
        (lambda: new_data("events", rows=0), "always due"),
    ],
)
def test_policies_and_triggers_that_cannot_work_are_refused(make_policy: Callable[[], object], hint: str) -> None:
    with pytest.raises(InvalidInput, match=hint):
        make_policy()


def test_a_schedule_is_a_pipeline_with_triggers() -> None:
    with pytest.raises(InvalidInput, match="@pipeline"):
        Schedule(len, on=[every("1h")])  # type: ignore[arg-type]
