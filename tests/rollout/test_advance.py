"""A canary from its begin to its decision, on real registries and logs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from tidewheel.errors import Conflict, NotFound
from tidewheel.lineage.chain import verify_chain
from tidewheel.lineage.read import get_execution, list_events
from tidewheel.lineage.store import Store
from tidewheel.predictions.join import Joiner
from tidewheel.predictions.segments import log_folder
from tidewheel.registry.aliases import current_aliases
from tidewheel.registry.promotion import promote, rollback
from tidewheel.registry.traffic import current_traffic, traffic_history
from tidewheel.rollout import tables
from tidewheel.rollout.advance import advance, cancel
from tidewheel.rollout.begin import begin
from tidewheel.rollout.evidence import no_evidence
from tidewheel.rollout.records import Decision
from tidewheel.rollout.rollouts import Canary, canary
from tidewheel.rollout.stored import get_rollout, list_rollouts

MODEL = "apples"
PAIRED = canary((10, 50, 100), goal="accuracy", min_requests=50)


def begun(trial: Any, config: Canary = PAIRED, candidate: int = 2, **options: Any) -> Decision:
    return begin(trial.store, MODEL, candidate, config, by="test", **options)


def run(trial: Any, *, looks: int, requests: int = 25, joiner: Joiner | None = None) -> list[Decision]:
    """Serve and look, until the rollout has ended or the looks are used up; return its decisions."""
    joiner = joiner or Joiner(log_folder(trial.store.home, MODEL))
    decisions = []
    for _ in range(looks):
        trial.go(requests)
        decision = advance(trial.store, MODEL, joiner=joiner)
        if decision is not None:
            decisions.append(decision)
            if decision.state != "running":
                break
    return decisions


def events(store: Store) -> list[str]:
    with store.database.reading() as tx:
        return [event.type for event in list_events(tx, type_prefix="rollout.", limit=1_000)]


def test_begin_gives_the_first_share_and_says_so(any_trial: Any) -> None:
    store = any_trial.store
    decision = begun(any_trial, fault=0.05)
    traffic = current_traffic(store, MODEL)
    assert (traffic.champion, traffic.challenger, traffic.share) == (1, 2, 0.1)
    assert traffic.paired
    assert traffic.fault == 0.05
    assert current_aliases(store, MODEL) == {"champion": 1, "challenger": 2}
    rollout = get_rollout(store, MODEL)
    assert rollout is not None
    assert (rollout.state, rollout.candidate, rollout.step, rollout.share) == ("running", 2, 0, 0.1)
    assert rollout.config == PAIRED
    assert {test.name for test in rollout.tests} == {
        "errors",
        "slower",
        "goal worse",
        "errors not higher",
        "goal not worse",
    }
    with store.database.reading() as tx:
        (event,) = list_events(tx, type_prefix="rollout.")
        execution = get_execution(tx, decision.rollout_id)
    assert event.governs
    assert event.body["text"] == "apples:2 starts as canary at 10%"
    assert (execution.kind, execution.state) == ("rollout", "RUNNING")


def test_a_better_candidate_is_promoted_step_by_step(any_trial: Any) -> None:
    store = any_trial.store
    any_trial.behave(2, wrong=0.02)
    begun(any_trial)
    decisions = run(any_trial, looks=60)
    assert [decision.action for decision in decisions] == ["step", "promote"]
    assert decisions[0].share == 0.5
    promoted = decisions[-1]
    assert promoted.reason.startswith("it is not worse: accuracy 0.9")
    assert promoted.numbers["tests"]["goal not worse"]["log_e"] >= promoted.numbers["tests"]["goal not worse"]["limit"]
    assert promoted.numbers["goal"]["candidate"] > promoted.numbers["goal"]["champion"]
    traffic = current_traffic(store, MODEL)
    assert (traffic.champion, traffic.challenger, traffic.share) == (2, None, 0.0)
    assert current_aliases(store, MODEL) == {"champion": 2}
    assert events(store) == ["rollout.started", "rollout.stepped", "rollout.promoted"]
    rollout = get_rollout(store, MODEL)
    assert rollout is not None
    assert rollout.state == "promoted"
    assert rollout.ended == store.clock.now()
    with store.database.reading() as tx:
        execution = get_execution(tx, rollout.id)
        assert verify_chain(tx).intact
    assert (execution.state, execution.facets["decision"]) == ("SUCCEEDED", "promote")
    assert advance(store, MODEL) is None


def test_an_equal_candidate_is_promoted_as_not_worse(trial: Any) -> None:
    trial.behave(1, wrong=0.02)
    trial.behave(2, wrong=0.02)
    begun(trial, canary((25,), goal="accuracy", margin=0.05, min_requests=50))
    assert run(trial, looks=60)[-1].action == "promote"


def test_a_worse_candidate_is_rolled_back_by_the_labels(any_trial: Any) -> None:
    store = any_trial.store
    any_trial.behave(2, wrong=0.4)
    begun(any_trial)
    last = run(any_trial, looks=60)[-1]
    assert last.action == "roll_back"
    assert last.reason.startswith("it is worse: accuracy 0.6") or last.reason.startswith("it is worse: accuracy 0.5")
    traffic = current_traffic(store, MODEL)
    assert (traffic.champion, traffic.challenger, traffic.undo) == (1, None, True)
    assert current_aliases(store, MODEL) == {"champion": 1}
    assert events(store)[-1] == "rollout.rolled_back"


def test_a_failing_candidate_is_rolled_back_although_its_answers_are_better(trial: Any) -> None:
    """The demo's sabotage: 5 % of the candidate's requests fail, and the champion answers instead."""
    trial.behave(2, wrong=0.02, fails=0.05)
    begun(trial)
    last = run(trial, looks=60)[-1]
    assert last.action == "roll_back"
    assert "fails more often" in last.reason
    assert last.numbers["errors"]["candidate"] >= 5
    assert last.numbers["errors"]["champion"] == 0
    assert last.numbers["scored_by_candidate"] <= 500


def test_an_unpaired_failing_candidate_is_rolled_back_by_the_split_alone(any_trial: Any) -> None:
    any_trial.behave(1, fails=0.001)
    any_trial.behave(2, fails=0.1)
    begun(any_trial, canary((10, 100), min_requests=50))
    decisions = run(any_trial, looks=100, requests=50)
    assert decisions[-1].action == "roll_back"
    assert decisions[-1].numbers["errors"]["candidate_attempts"] < decisions[-1].numbers["errors"]["champion_attempts"]


def test_without_labels_a_healthy_candidate_is_promoted_on_errors_and_latency(any_trial: Any) -> None:
    begun(any_trial, canary((50, 100), min_requests=50, error_margin=0.05))
    last = run(any_trial, looks=60, requests=20)[-1]
    assert last.action == "promote"
    assert last.reason.startswith("it is not worse: 0 of ")
    assert last.numbers["scored_by_candidate"] >= 50
    assert "goal" not in last.numbers


def test_without_pairs_the_goal_is_compared_by_weighted_means(trial: Any) -> None:
    trial.behave(2, wrong=0.02)
    begun(trial, canary((50,), goal="accuracy", paired=False, min_requests=50, margin=0.05, error_margin=0.05))
    assert not current_traffic(trial.store, MODEL).paired
    assert run(trial, looks=60, requests=50)[-1].action == "promote"
    trial.behave(3, wrong=0.5)
    begun(trial, canary((50,), goal="accuracy", paired=False, min_requests=50), candidate=3)
    last = run(trial, looks=60, requests=50)[-1]
    assert last.action == "roll_back"
    assert "it is worse" in last.reason


def test_a_slow_candidate_is_rolled_back(trial: Any) -> None:
    trial.behave(1, latency_us=20_000)
    trial.behave(2, latency_us=60_000)
    begun(trial, canary((50,), min_requests=50))
    last = run(trial, looks=60)[-1]
    assert last.action == "roll_back"
    assert last.reason.startswith("it is slower")


def test_regression_goes_by_the_scaled_difference_of_squared_errors(begin_trial: Callable[[str], Any]) -> None:
    trial = begin_trial("regression")
    config = canary((20,), goal="rmse", min_requests=50)
    trial.behave(1, wrong=1.0)
    trial.behave(2, wrong=0.7)
    begun(trial, config)
    last = run(trial, looks=100)[-1]
    assert last.action == "promote"
    assert last.numbers["goal"]["metric"] == "rmse"
    assert last.numbers["goal"]["candidate"] == pytest.approx(0.7, abs=0.1)
    trial.behave(3, wrong=1.1)
    begun(trial, config, candidate=3)
    assert run(trial, looks=100)[-1].action == "roll_back"


@pytest.mark.parametrize(("at_deadline", "challenger"), [("roll_back", None), ("hold", 2)])
def test_what_is_open_at_the_deadline_is_inconclusive(trial: Any, at_deadline: Any, challenger: int | None) -> None:
    begun(trial, canary((10, 50), goal="accuracy", deadline=timedelta(hours=1), at_deadline=at_deadline))
    assert run(trial, looks=1) == []
    trial.store.clock.advance(timedelta(minutes=59))
    assert advance(trial.store, MODEL) is None
    trial.store.clock.advance(timedelta(minutes=1))
    decision = advance(trial.store, MODEL)
    assert decision is not None
    assert decision.action == decision.state == "inconclusive"
    assert "the deadline of 3600 seconds has passed" in decision.reason
    traffic = current_traffic(trial.store, MODEL)
    assert (traffic.champion, traffic.challenger) == (1, challenger)
    assert advance(trial.store, MODEL) is None


def test_a_limit_of_requests_ends_it_as_inconclusive(trial: Any) -> None:
    begun(trial, canary((50,), goal="accuracy", min_requests=10, most_requests=100, margin=0.001, error_margin=0.001))
    decision = run(trial, looks=10)[-1]
    assert decision.action == "inconclusive"
    assert "requests have not decided it" in decision.reason
    assert current_traffic(trial.store, MODEL).challenger is None


def test_nothing_is_promoted_before_the_least_exposure(trial: Any) -> None:
    trial.behave(2, wrong=0.0)
    begun(trial, canary((50, 100), goal="accuracy", min_requests=1_000, error_margin=0.2))
    assert run(trial, looks=12, requests=80) == []
    rollout = get_rollout(trial.store, MODEL)
    assert rollout is not None
    assert "960 of 1000 requests at this step" in rollout.reason
    assert run(trial, looks=1, requests=40)[-1].action == "promote"


def test_a_split_that_is_not_kept_forbids_a_promotion(trial: Any) -> None:
    """Logging that loses half of the candidate's requests: whatever they show, nothing may be concluded from it."""
    trial.behave(2, wrong=0.0)
    begun(trial, canary((50,), min_requests=50, error_margin=0.05))
    kept = trial._record

    def lossy(version: int, arm: str, propensity: float) -> Any:
        record = kept(version, arm, propensity)
        lost = arm == "challenger" and trial.random.random() < 0.7
        return msgspec.structs.replace(record, route="pinned") if lost else record

    trial._record = lossy
    assert run(trial, looks=20, requests=50) == []
    rollout = get_rollout(trial.store, MODEL)
    assert rollout is not None
    assert "the split is not kept" in rollout.reason


def test_many_processes_make_one_decision(any_trial: Any) -> None:
    store = any_trial.store
    any_trial.behave(2, wrong=0.0)
    begun(any_trial, canary((10, 50), goal="accuracy", min_requests=50, error_margin=0.1))
    found: list[Decision] = []
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            any_trial.go(40)
            decisions = pool.map(lambda _: advance(store, MODEL), range(4))
            found += [decision for decision in decisions if decision is not None]
    assert [decision.action for decision in found] == ["step", "promote"]
    assert events(store) == ["rollout.started", "rollout.stepped", "rollout.promoted"]
    assert len(traffic_history(store, MODEL)) == 4  # first champion, begin, step, promotion
    rollout = get_rollout(store, MODEL)
    assert rollout is not None
    assert rollout.numbers["errors"]["candidate_attempts"] == rollout.scored


def test_a_look_that_was_overtaken_stores_and_decides_nothing(any_trial: Any) -> None:
    """Another process looks between this one's reading and its writing; first it gathers, at last it decides."""
    store = any_trial.store
    any_trial.behave(2, wrong=0.0)
    begun(any_trial, canary((50,), goal="accuracy", min_requests=50, error_margin=0.1))
    overtaking: list[Decision | None] = []

    class Overtaken(Joiner):
        def labelled(self, cursor: Any = None, *, limit: int | None = None) -> Any:
            any_trial.go(10)
            overtaking.append(advance(store, MODEL))
            return super().labelled(cursor, limit=limit)

    served = 0
    while not overtaking or overtaking[-1] is None:
        any_trial.go(20)
        served += 30
        assert served < 2_000
        assert advance(store, MODEL, joiner=Overtaken(log_folder(store.home, MODEL))) is None
        rollout = get_rollout(store, MODEL)
        assert rollout is not None
        assert rollout.scored == rollout.numbers["goal"]["rows"] == served
    assert events(store) == ["rollout.started", "rollout.promoted"]
    assert current_traffic(store, MODEL).champion == 2


def test_a_look_that_dies_before_its_commit_is_repeated_and_not_lost(trial: Any) -> None:
    """Whatever was read stays unread until the transaction that holds the evidence commits."""
    begun(trial)
    trial.go(30)
    with trial.store.database.reading() as tx:
        before = tx.row("SELECT revision, evidence, cursors FROM rollout")
    trigger = "CREATE TRIGGER dies BEFORE UPDATE ON rollout BEGIN SELECT RAISE(ABORT, 'killed'); END"
    with trial.store.database.transaction() as tx:
        tx.run(trigger)
    with pytest.raises(sa.exc.SQLAlchemyError, match="killed"):
        advance(trial.store, MODEL)
    with trial.store.database.transaction() as tx:
        tx.run("DROP TRIGGER dies")
    with trial.store.database.reading() as tx:
        assert tx.row("SELECT revision, evidence, cursors FROM rollout") == before
    advance(trial.store, MODEL)
    rollout = get_rollout(trial.store, MODEL)
    assert rollout is not None
    assert rollout.scored == 30
    assert rollout.numbers["goal"]["rows"] == 30


def test_how_often_one_looks_changes_no_count(trial: Any) -> None:
    begun(trial, canary((10,), goal="accuracy", min_requests=10_000))
    for _ in range(30):
        trial.go(7)
        advance(trial.store, MODEL, joiner=None)
    often = get_rollout(trial.store, MODEL)
    assert often is not None
    with trial.store.database.transaction() as tx:
        tx.execute(sa.text('UPDATE rollout SET cursors = \'{"log": {}, "labels": {}}\''))
        fresh = canary((10,), goal="accuracy", min_requests=10_000)
        import msgspec

        tx.execute(sa.update(tables.rollout).values(evidence=msgspec.to_builtins(no_evidence(fresh), str_keys=True)))
    advance(trial.store, MODEL)
    once = get_rollout(trial.store, MODEL)
    assert once is not None
    assert (once.requests, once.scored) == (often.requests, often.scored) == (210, 210)
    assert once.numbers["errors"] == often.numbers["errors"]
    assert once.numbers["goal"] == often.numbers["goal"]
    tests = {test.name: test.log_e for test in once.tests}
    for test in often.tests:
        if test.name not in ("errors", "slower"):  # those close a segment at each look
            assert tests[test.name] == pytest.approx(test.log_e)


def test_somebody_elses_traffic_is_left_alone(any_trial: Any) -> None:
    store = any_trial.store
    begun(any_trial)
    any_trial.go(30)
    promote(store, MODEL, 3, by="ada", reason="I know better")
    decision = advance(store, MODEL)
    assert decision is not None
    assert decision.state == "inconclusive"
    assert "ada moved the traffic" in decision.reason
    assert current_traffic(store, MODEL).champion == 3
    begun(any_trial, candidate=2)
    rollback(store, MODEL, by="ada", reason="not now")
    ended = advance(store, MODEL)
    assert ended is not None
    assert ended.state == "inconclusive"
    assert current_traffic(store, MODEL).challenger is None


def test_a_person_can_end_it(any_trial: Any) -> None:
    store = any_trial.store
    begun(any_trial)
    decision = cancel(store, MODEL, by="ada", reason="wrong data")
    assert decision.action == "roll_back"
    assert decision.reason == "ada ended it: wrong data"
    assert current_traffic(store, MODEL).challenger is None
    with pytest.raises(NotFound, match="running rollout"):
        cancel(store, MODEL, by="ada", reason="again")


def test_what_cannot_begin_says_why(any_trial: Any) -> None:
    store = any_trial.store
    with pytest.raises(NotFound, match="version"):
        begun(any_trial, candidate=9)
    with pytest.raises(Conflict, match="champion already"):
        begun(any_trial, candidate=1)
    with pytest.raises(NotFound, match="apples"):
        begin(store, "apple", 2, PAIRED, by="test")
    begun(any_trial)
    with pytest.raises(Conflict, match="on trial already"):
        begun(any_trial, candidate=3)
    assert begun(any_trial).rollout_id == list_rollouts(store, MODEL)[0].id  # once more is no second rollout
    assert events(store) == ["rollout.started"]
    assert len(list_rollouts(store, MODEL)) == 1
    with pytest.raises(NotFound, match="apples"):
        advance(store, "apple")


def test_without_a_rollout_nothing_happens(trial: Any) -> None:
    trial.go(20)
    assert advance(trial.store, MODEL) is None
    assert get_rollout(trial.store, MODEL) is None


def test_requests_before_the_begin_do_not_count(trial: Any) -> None:
    trial.behave(1, fails=0.5)
    trial.go(200)
    trial.behave(1, fails=0.0)
    begun(trial)
    trial.go(20)
    advance(trial.store, MODEL)
    rollout = get_rollout(trial.store, MODEL)
    assert rollout is not None
    assert (rollout.requests, rollout.scored) == (20, 20)
    assert rollout.numbers["errors"]["champion"] == 0
