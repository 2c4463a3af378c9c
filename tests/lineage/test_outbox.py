"""What others are to be told is written with the change, sent at least once, in order, and parked when poison."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.lineage.receiver import Receiver, receiving

from tidewheel.clock import ManualClock, from_micros
from tidewheel.errors import InvalidInput, NotFound
from tidewheel.lineage.openlineage import plain
from tidewheel.lineage.outbox import MOST_TRIES, DeliveryFailed, Sink, deliver, forget_sent, retry, waiting
from tidewheel.lineage.sinks import LINEAGE_PATH, FileSink, HttpSink, sink_at
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import finish_execution, start_execution


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A real receiver."""
    with receiving() as server:
        yield server


def told(store: Store, sink: Sink) -> Store:
    """Return the store with a webhook."""
    store.database.sinks = ("webhook",)
    return replace(store, sinks={"webhook": (sink, plain)})


def begin(store: Store, kind: str = "run", parent: str | None = None) -> str:
    """Record that something begins."""
    with store.database.transaction() as tx:
        return start_execution(tx, kind=kind, job="tide", at=store.clock.now(), parent_id=parent).id


def end(store: Store, execution_id: str, state: str = "SUCCEEDED", error: str | None = None) -> None:
    """Record that it ended."""
    with store.database.transaction() as tx:
        finish_execution(tx, execution_id, at=store.clock.now(), state=state, error=error)


def later(store: Store, seconds: float) -> None:
    """Let time pass."""
    assert isinstance(store.clock, ManualClock)
    store.clock.advance(timedelta(seconds=seconds))


def test_nothing_is_written_where_nobody_is_told(any_store: Store) -> None:
    end(any_store, begin(any_store))
    with any_store.database.reading() as tx:
        assert waiting(tx) == []
    assert any_store.tell().sent == 0


def test_runs_and_steps_are_told_in_order_with_key_and_signature(any_store: Store, receiver: Receiver) -> None:
    store = told(any_store, HttpSink(receiver.url + "/hook", key="k-1", secret="s3"))
    run = begin(store)
    step = begin(store, "step", run)
    begin(store, "evaluation")
    end(store, step, "COMMITTED")
    end(store, run, "FAILED", "it broke")
    done = store.tell()
    assert (done.sent, done.failed, done.parked) == (4, 0, 0)
    assert [item["event"] for item in receiver.taken] == ["run.running", "step.running", "step.committed", "run.failed"]
    assert {item["run"] for item in receiver.taken} == {run}
    assert receiver.taken[-1]["error"] == "it broke"
    assert receiver.paths == ["/hook"] * 4
    for headers, body in zip(receiver.headers, receiver.bodies, strict=True):
        assert headers["Authorization"] == "Bearer k-1"
        assert headers["X-Tidewheel-Signature"] == "sha256=" + hmac.new(b"s3", body, hashlib.sha256).hexdigest()
    assert len({headers["Idempotency-Key"] for headers in receiver.headers}) == 4
    assert store.tell().sent == 0


def test_what_is_rolled_back_is_never_told(any_store: Store, receiver: Receiver) -> None:
    store = told(any_store, HttpSink(receiver.url))

    def change() -> None:
        with store.database.transaction() as tx:
            start_execution(tx, kind="run", job="tide", at=store.clock.now())
            raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError):
        change()
    assert store.tell().sent == 0


def test_a_receiver_that_is_busy_is_tried_again_and_the_rest_of_the_run_waits(
    any_store: Store, receiver: Receiver
) -> None:
    store = told(any_store, HttpSink(receiver.url))
    run = begin(store)
    end(store, run)
    receiver.answers = [503, 503]
    assert (store.tell().failed, receiver.taken) == (1, [])
    assert store.tell().failed == 0, "it is not due yet"
    later(store, 2)
    assert store.tell().failed == 1
    later(store, 2)
    assert store.tell().sent == 0, "the pause has doubled"
    with store.database.reading() as tx:
        first, second = waiting(tx)
    assert (first.tries, first.parked, second.tries) == (2, False, 0)
    assert "503" in first.error
    later(store, 2)
    assert store.tell().sent == 2
    assert [item["state"] for item in receiver.taken] == ["RUNNING", "SUCCEEDED"]
    assert len({headers["Idempotency-Key"] for headers in receiver.headers[:3]}) == 1


def test_nobody_answers(any_store: Store) -> None:
    with receiving() as gone:
        address = gone.url
    store = told(any_store, HttpSink(address))
    begin(store)
    assert store.tell().failed == 1
    with store.database.reading() as tx:
        assert "does not answer" in waiting(tx)[0].error


def test_a_poison_message_is_parked_at_once_and_can_be_taken_up_again(any_store: Store, receiver: Receiver) -> None:
    store = told(any_store, HttpSink(receiver.url))
    run = begin(store)
    end(store, run)
    receiver.answers = [422]
    done = store.tell()
    assert (done.sent, done.failed, done.parked) == (1, 0, 1)
    with store.database.reading() as tx:
        (parked,) = waiting(tx)
    assert (parked.parked, parked.run_id) == (True, run)
    with store.database.transaction() as tx:
        with pytest.raises(NotFound, match=r"parked message.*\n.*outbox list"):
            retry(tx, parked.seq + 1)
        assert retry(tx, parked.seq) == 1
    assert store.tell().sent == 1
    assert [item["state"] for item in receiver.taken] == ["SUCCEEDED", "RUNNING"]


def test_a_message_is_parked_after_enough_tries(any_store: Store, receiver: Receiver) -> None:
    store = told(any_store, HttpSink(receiver.url))
    begin(store)
    receiver.answers = [500] * MOST_TRIES
    outcomes = []
    for _ in range(MOST_TRIES):
        done = store.tell()
        outcomes.append((done.failed, done.parked))
        later(store, 1000)
    assert outcomes == [(1, 0)] * (MOST_TRIES - 1) + [(0, 1)]
    assert store.tell().sent == 0
    with store.database.transaction() as tx:
        assert retry(tx) == 1
    assert store.tell().sent == 1


class Slow:
    """Keeps what it is sent, with the thread that sent it."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def send(self, message: Mapping[str, Any], key: str) -> None:
        with self._lock:
            self.taken.append((message["run"], message["state"]))


def test_many_senders_tell_everything_once_and_in_order(any_store: Store) -> None:
    sink = Slow()
    store = told(any_store, sink)
    runs = [begin(store) for _ in range(20)]
    for run in runs:
        end(store, run)
    threads = [threading.Thread(target=store.tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(sink.taken) == sorted([(run, state) for run in runs for state in ("RUNNING", "SUCCEEDED")])
    for run in runs:
        assert [state for told_run, state in sink.taken if told_run == run] == ["RUNNING", "SUCCEEDED"]


class Dying:
    """Takes a message and dies before that is written down, as a process does."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def send(self, message: Mapping[str, Any], key: str) -> None:
        self.taken.append(message["state"])
        if len(self.taken) == 1:
            raise KeyboardInterrupt


def test_a_sender_that_dies_is_followed_by_another_after_its_lease(any_store: Store) -> None:
    sink = Dying()
    store = told(any_store, sink)
    end(store, begin(store))
    with pytest.raises(KeyboardInterrupt):
        store.tell()
    assert store.tell().sent == 0, "the first sender may still be alive"
    later(store, 200)
    assert store.tell().sent == 2
    assert sink.taken == ["RUNNING", "RUNNING", "SUCCEEDED"], "at least once"


def test_what_was_sent_can_be_forgotten(any_store: Store, receiver: Receiver) -> None:
    store = told(any_store, HttpSink(receiver.url))
    begin(store)
    store.tell()
    begin(store)
    with store.database.transaction() as tx:
        assert forget_sent(tx, from_micros(0)) == 0
        assert forget_sent(tx, store.clock.now() + timedelta(days=1)) == 1
        assert len(waiting(tx)) == 1


def test_a_store_tells_what_is_left_when_it_is_closed(store: Store, receiver: Receiver) -> None:
    teller = told(store, HttpSink(receiver.url))
    begin(teller)
    teller.close()
    assert len(receiver.taken) == 1


def test_a_file_gets_one_line_for_each_message(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "events" / "lineage.ndjson"
    teller = told(store, sink_at(path.as_uri()))
    end(teller, begin(teller))
    assert teller.tell().sent == 2
    assert [json.loads(line)["state"] for line in path.read_text().splitlines()] == ["RUNNING", "SUCCEEDED"]
    deliver(store.database, store.clock, {"webhook": (sink_at("console"), plain)})
    begin(teller)
    deliver(store.database, store.clock, {"webhook": (sink_at("console"), plain)})
    assert json.loads(capsys.readouterr().out)["state"] == "RUNNING"
    with pytest.raises(DeliveryFailed, match="cannot be written"):
        FileSink(tmp_path).send({}, "1")


@pytest.mark.parametrize("address", ["", "localhost:5000", "ftp://a/b", "http://", "file://", "kafka"])
def test_addresses_that_are_no_place_are_refused(address: str) -> None:
    with pytest.raises(InvalidInput, match="no place for events"):
        sink_at(address)


def test_the_path_of_openlineage_is_added_where_the_address_has_none(receiver: Receiver) -> None:
    for address in (receiver.url, receiver.url + "/", receiver.url + "/other"):
        sink_at(address, path=LINEAGE_PATH).send({}, "1")
    assert receiver.paths == [LINEAGE_PATH, LINEAGE_PATH, "/other"]
