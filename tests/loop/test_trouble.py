"""What goes wrong with a retraining, or with the loop itself: said once, recorded, and the conductor goes on."""

from __future__ import annotations

import threading
from datetime import timedelta
from types import ModuleType
from typing import Any

import numpy as np
import polars as pl
import pytest
import sqlalchemy as sa

from tidewheel.clock import ManualClock, micros
from tidewheel.data import datasets
from tidewheel.errors import NotFound
from tidewheel.evaluation import gates
from tidewheel.lineage.read import list_events
from tidewheel.lineage.store import Store
from tidewheel.loop import triggers
from tidewheel.loop.conductor import Turn, conduct
from tidewheel.loop.requests import request_run
from tidewheel.loop.state import Claim, Overtaken, Running, load_state, owner_of
from tidewheel.loop.status import LoopStatus, status
from tidewheel.loop.tables import loop_state
from tidewheel.loop.tick import Ticker, tick
from tidewheel.loop.train import MOST_ATTEMPTS, train
from tidewheel.pipelines.leases import grant, new_hold
from tidewheel.pipelines.runs import list_runs
from tidewheel.registry.promotion import promote
from tidewheel.registry.traffic import current_traffic, set_traffic
from tidewheel.registry.versions import list_versions
from tidewheel.rollout.rollouts import canary


def state_of(store: Store) -> LoopStatus:
    """Return the status of the loop."""
    return status(store, "apples")[0]


def claim_of(store: Store) -> Claim:
    """Read the state of the loop."""
    with store.database.reading() as tx:
        return Claim(store, "apples", load_state(tx, "apples"))


def texts(store: Store, kind: str) -> list[str]:
    """Return the lines of all events of a type, oldest first."""
    with store.database.reading() as tx:
        found = list_events(tx, type_prefix=kind, limit=1000)
    return [event.body["text"] for event in found if event.by == "loop"]


def test_an_unknown_dataset_is_said_once_and_the_loop_goes_on_when_it_is_there(
    store: Store, orchard: ModuleType
) -> None:
    orchard.plant(store)
    wrong, right = orchard.make_loop(data="orchart"), orchard.make_loop()
    for _ in range(3):
        with pytest.raises(NotFound, match="Did you mean 'orchard'"):
            tick(store, wrong)
    assert texts(store, "loop.stuck") == ["cannot look: There is no dataset named 'orchart'."]
    found = state_of(store)
    assert (found.busy, found.doing) == (False, "cannot look: There is no dataset named 'orchart'.")
    assert tick(store, right).trained is not None
    tick(store, right)
    assert state_of(store).doing == "watching"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"label": "god"}, "no column named 'god'"),
        ({"holdout_rows": (150, 200)}, "200 rows; 150 are held out"),
        ({"pipeline": "pears"}, "returned a str"),
        ({"pipeline": "rotten"}, "150 rows are rotten"),
        ({"parameters": {"depth": 3}}, "no parameter of apples named 'depth'"),
        ({"gates": [gates.threshold("rmse", at_most=1.0)]}, "rmse"),
    ],
)
def test_a_retraining_that_fails_is_recorded_and_not_tried_again(
    stand: Any, orchard: ModuleType, changes: dict[str, Any], reason: str
) -> None:
    store = stand.store
    if "pipeline" in changes:
        changes = {"pipeline": getattr(orchard, changes["pipeline"])}
    ticker = Ticker(store, orchard.make_loop(**changes))
    report = ticker.tick()
    assert report.trained is not None
    assert report.trained.ending == "failed"
    assert reason in report.trained.reason
    assert reason in texts(store, "run.failed")[-1]
    runs = len(list_runs(store))
    for _ in range(3):
        assert ticker.tick().cause is None
    assert len(list_runs(store)) == runs
    assert not state_of(store).busy
    datasets.append(store, "orchard", orchard.harvest(np.random.default_rng(3), 10))
    assert ticker.tick().cause is not None  # other data are worth another attempt


def test_an_error_of_a_gate_that_nobody_foresaw_ends_the_retraining_alone(stand: Any, orchard: ModuleType) -> None:
    class Odd:
        name = "odd"

        def check(self, evidence: Any) -> Any:
            raise ZeroDivisionError(f"{evidence.rows.height} rows")

    report = tick(stand.store, orchard.make_loop(gates=[Odd()]))
    assert report.trained is not None
    assert (report.trained.ending, report.trained.reason) == ("failed", "ZeroDivisionError: 50 rows")


def test_refusals_in_a_row_call_a_person_who_alone_can_go_on(stand: Any, orchard: ModuleType) -> None:
    store = stand.store
    strict = {"gates": [gates.threshold("accuracy", at_least=1.0)], "on": [triggers.new_data(rows=10)]}
    ticker = Ticker(store, orchard.make_loop(give_up_after=2, **strict))
    random = np.random.default_rng(4)
    for _ in range(4):
        datasets.append(store, "orchard", orchard.harvest(random, 10))
        last = ticker.tick()
    assert last.refusal is not None
    assert last.refusal.rule == "gave_up"
    found = state_of(store)
    assert (found.counters["triggers"], found.counters["refusals"], found.busy) == (2, 2, False)
    assert len(texts(store, "loop.gave_up")) == 1
    assert len(texts(store, "trigger.suppressed")) == 1
    request_run(store, "apples", by="ann", reason="looked into it")
    assert state_of(store).busy
    assert ticker.tick().trained is not None
    datasets.append(store, "orchard", orchard.harvest(random, 10))
    assert ticker.tick().trained is not None  # the count began anew


def test_a_request_is_taken_by_the_next_retraining_and_answered_once(stand: Any, orchard: ModuleType) -> None:
    store = stand.store
    with pytest.raises(NotFound, match="tidewheel up"):
        request_run(store, "apples")
    ticker = Ticker(store, orchard.make_loop())
    ticker.tick()
    for name in ("ann", "bob"):
        request_run(store, "apples", by=name)
    report = ticker.tick()
    assert report.cause is not None
    assert (report.cause.trigger, report.cause.reason) == ("manual", "ann asked for it")
    assert ticker.tick().cause is None
    with pytest.raises(NotFound, match="apples"):
        request_run(store, "apple")


def test_one_at_a_time_while_a_candidate_is_on_trial(stand: Any, orchard: ModuleType) -> None:
    store = stand.store
    ticker = Ticker(store, orchard.make_loop(rollout=canary()))
    ticker.tick()
    request_run(store, "apples", by="ann")
    report = ticker.tick()
    assert report.trained is not None
    assert report.trained.ending == "rolling"
    assert current_traffic(store, "apples").challenger == 2
    request_run(store, "apples", by="bob")
    for _ in range(3):
        report = ticker.tick()
        assert report.refusal is not None
        assert report.refusal.rule == "one_at_a_time"
    assert not state_of(store).busy  # nothing can be done before the rollout is decided
    assert len(texts(store, "trigger.suppressed")) == 1
    set_traffic(store, "apples", champion=1, by="ann", reason="enough")
    assert state_of(store).busy
    report = ticker.tick()
    assert report.trained is not None
    assert report.trained.version == 3


def test_cooldown_holds_back_until_it_has_passed(stand: Any, orchard: ModuleType) -> None:
    store = stand.store
    ticker = Ticker(store, orchard.make_loop(on=[triggers.new_data(rows=10)], cooldown=timedelta(hours=1)))
    ticker.tick()
    stand.sell(10)
    report = ticker.tick()
    assert report.refusal is not None
    assert report.refusal.text == "cooldown of 1:00:00, 1:00:00 left"
    assert state_of(store).doing.startswith("watching; a retraining waits: cooldown")
    assert isinstance(store.clock, ManualClock)
    store.clock.advance(timedelta(hours=1))
    assert ticker.tick().trained is not None


def test_a_model_deployed_by_hand_needs_no_first_training(stand: Any, orchard: ModuleType) -> None:
    store = stand.store
    tick(store, orchard.make_loop())
    with store.database.transaction() as tx:
        tx.execute(sa.delete(loop_state))
    ticker = Ticker(store, orchard.make_loop(on=[triggers.new_data(rows=10)]))
    assert ticker.tick().cause is None
    stand.sell(10)
    report = ticker.tick()
    assert report.cause is not None
    assert report.cause.trigger == "new_data"


def running(store: Store, **changes: Any) -> Running:
    """Return a retraining that another machine has begun."""
    settings: dict[str, Any] = {"trigger": "first", "key": "first:x", "reason": "", "owner": "elsewhere:/home"}
    now = micros(store.clock.now())
    return Running(**(settings | {"since": now, "dataset": "orchard:1"} | changes))


def test_the_retraining_of_another_machine_is_taken_over_when_it_is_stale(any_stand: Any, orchard: ModuleType) -> None:
    store, loop = any_stand.store, orchard.make_loop()
    slow = claim_of(store)
    slow.move(running=running(store))
    assert tick(store, loop).busy
    assert state_of(store).busy
    with store.database.transaction() as tx:
        hold = new_hold("loop:apples", 3_600.0)
        grant(tx, hold, store.clock)
    store.clock.advance(timedelta(seconds=store.lease_seconds))
    assert tick(store, loop).busy  # it renews its lease
    with store.database.transaction() as tx:
        tx.run("UPDATE lease SET until = 1")
    report = tick(store, loop)
    assert report.trained is not None
    assert report.trained.ending == "deployed"
    with pytest.raises(Overtaken):  # the first machine was only slow; nothing it does counts any more
        train(store, loop, slow, executor="inline")
    assert len(list_versions(store, "apples")) == 1
    assert sorted(run.cause["part"] for run in list_runs(store)) == ["candidate", "refit"]


def test_a_retraining_that_kills_its_processes_is_given_up(stand: Any, orchard: ModuleType) -> None:
    store, loop = stand.store, orchard.make_loop()
    ticker = Ticker(store, loop)
    ticker.tick()
    claim = claim_of(store)
    claim.move(running=running(store, owner=owner_of(store.home), attempts=MOST_ATTEMPTS))
    report = Ticker(store, loop).tick()
    assert report.trained is not None
    assert (report.trained.ending, report.trained.reason) == ("failed", "5 processes died over it")
    assert claim_of(store).state.running is None


def test_a_trial_begun_by_hand_meanwhile_ends_the_retraining_not_the_loop(stand: Any, orchard: ModuleType) -> None:
    store = stand.store
    ticker = Ticker(store, orchard.make_loop(rollout=canary()))
    ticker.tick()

    class Meddler:
        name = "meddler"

        def check(self, evidence: Any) -> Any:
            if len(list_versions(store, "apples")) == 2:
                set_traffic(store, "apples", champion=1, challenger=2, share=0.1, by="ann", reason="by hand")
            return gates.threshold("accuracy", at_least=0.1).check(evidence)

    request_run(store, "apples")
    ticker.tick()
    promote(store, "apples", 1, by="ann", reason="no")
    meddled = Ticker(store, orchard.make_loop(rollout=canary(), gates=[Meddler()]))
    request_run(store, "apples")
    report = meddled.tick()
    assert report.trained is not None
    assert report.trained.ending == "failed"
    assert "on trial already" in report.trained.reason
    assert not meddled.tick().busy


def test_labels_count_as_seen_only_when_what_they_imply_has_begun(stand: Any, orchard: ModuleType) -> None:
    store = stand.store
    seen = []

    class Watching:
        name = "watching"

        def check(self, evidence: Any) -> Any:
            seen.append((state_of(store).busy, state_of(store).labelled))
            return gates.threshold("accuracy", at_least=0.1).check(evidence)

    ticker = Ticker(store, orchard.make_loop(on=[triggers.new_data(rows=20)], collect_rows=5, gates=[Watching()]))
    ticker.tick()
    assert state_of(store).busy  # triggers were not asked again since
    ticker.tick()
    assert not state_of(store).busy
    stand.sell(20)
    assert state_of(store).labelled == 0
    ticker.tick()
    assert seen == [(True, 0), (True, 20)]
    ticker.tick()
    assert (state_of(store).busy, state_of(store).labelled) == (False, 20)


def test_an_idle_tick_writes_nothing(stand: Any, orchard: ModuleType) -> None:
    store = stand.store
    ticker = Ticker(store, orchard.make_loop(on=[triggers.drift(), triggers.cron("0 3 * * *")]))
    ticker.tick()
    stand.sell(30)
    for _ in range(3):
        ticker.tick()
    written: list[str] = []

    store.database.listen(lambda: written.append("commit"))
    for _ in range(5):
        ticker.tick()
    assert written == []
    stand.sell(1)
    ticker.tick()
    assert written != []


def test_the_conductor_keeps_ticking_other_loops(
    store: Store, orchard: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    orchard.plant(store)
    stuck = orchard.make_loop(model="plums", data="nowhere")
    stop = threading.Event()

    class Stopping:
        name = "stopping"

        def due(self, context: Any) -> None:
            if context.deployed:
                stop.set()

    conduct(store, [stuck, orchard.make_loop(on=[Stopping()])], stop=stop, seconds=0.0)
    assert current_traffic(store, "apples").champion == 1
    assert "no dataset named 'nowhere'" in caplog.text
    assert {found.model for found in status(store)} == {"apples", "plums"}
    with pytest.raises(NotFound, match="apples"):
        status(store, "aples")


def test_a_loop_that_is_busy_keeps_no_other_one_waiting(store: Store, orchard: ModuleType) -> None:
    """The first loop waits, in its own tick, for what only a tick of the second one brings."""
    orchard.plant(store)
    stop, brought = threading.Event(), threading.Event()
    waited: list[bool] = []

    class Waiting:
        name = "waiting"

        def due(self, context: Any) -> None:
            waited.append(brought.wait(60))
            stop.set()

    class Bringing:
        name = "bringing"

        def due(self, context: Any) -> None:
            brought.set()

    loops = [orchard.make_loop(on=[Waiting()]), orchard.make_loop(model="pears", on=[Bringing()])]
    conduct(store, loops, stop=stop, seconds=0.0)
    assert waited[0] is True


def test_the_pause_doubles_while_a_loop_fails_and_only_then(store: Store, orchard: ModuleType) -> None:
    turn, clock = Turn(Ticker(store, orchard.make_loop()), 1.0), [0.0]
    pauses = []
    for _ in range(7):
        clock[0] = turn.due
        turn.take(lambda: clock[0])
        pauses.append(turn.due - clock[0])
    assert pauses == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    orchard.plant(store)
    clock[0] = turn.due
    turn.take(lambda: clock[0])
    assert turn.due - clock[0] == 1.0


def test_string_labels_and_features_go_round_the_loop(store: Store, orchard: ModuleType) -> None:
    frame = orchard.harvest(np.random.default_rng(0), 200).with_columns(
        good=pl.when(pl.col("good") == 1).then(pl.lit("yes")).otherwise(pl.lit("no"))
    )
    datasets.register(store, "orchard", frame, label="good")
    ticker, stand = Ticker(store, orchard.make_loop(collect_rows=1)), orchard.Stand(store)
    ticker.tick()
    ids = stand.serve(frame.head(3))
    stand.label(ids, ["yes", "maybe", "no"])
    ticker.tick()
    assert datasets.get(store, "orchard").rows == 203
    stand.close()
