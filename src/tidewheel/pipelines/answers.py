"""What answers a call without its step being executed: this run's journal, a call like it, the cache, another run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from tidewheel.database.transaction import Transaction
from tidewheel.pipelines import cache
from tidewheel.pipelines.active import in_step
from tidewheel.pipelines.cache import Hit
from tidewheel.pipelines.calls import Call
from tidewheel.pipelines.flights import Flight, find_flight
from tidewheel.pipelines.journal import Journal
from tidewheel.pipelines.keys import Key, Keys
from tidewheel.pipelines.liveness import mark_lost
from tidewheel.pipelines.prior import Prior
from tidewheel.pipelines.stored import Stored
from tidewheel.pipelines.transitions import DONE_STEP


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is to become of a call."""

    kind: Literal["execute", "prior", "cached", "follow", "wait"]  # follow: a call like it in this run; wait: elsewhere
    outputs: tuple[Stored, ...] = ()  # of prior and cached ones
    source: str = ""  # the execution that gave the answer, or the run that is waited for


_PATIENT_LOOKS = 4  # looks after which it is asked whether the other run still lives
EXECUTE = Answer(kind="execute")
FOLLOW = Answer(kind="follow")


class Answers:
    """Looks for what answers the calls of one run."""

    def __init__(self, journal: Journal, prior: Prior) -> None:
        self._journal = journal
        self._prior = prior
        self._keys = Keys(journal.run_id)
        self._occurrences: dict[str, int] = {}
        self._leaders: dict[str, Call] = {}
        # A run that a step has started does not wait for other runs: one of them may wait for that very step.
        self._alone = in_step()

    def identify(self, call: Call) -> Key:
        """Give a call its key, and its number among the calls of that key."""
        key = call.key = self._keys.of(call.step, call.arguments, call.ordinal)
        call.alone = self._alone
        self.number(call, key)
        return key

    def number(self, call: Call, key: Key) -> None:
        """Give a call its number among the calls of its key."""
        call.occurrence = self._occurrences.get(key.digest, 0)
        self._occurrences[key.digest] = call.occurrence + 1

    def adopt(self, call: Call, key: Key | None) -> Answer:
        """Take over what the journal has of a call since before the run was resumed."""
        earlier = self._prior.find(key.digest, call.occurrence) if key else None
        earlier = earlier or self._prior.skipped(call.step.identity, call.ordinal)
        if earlier is None or call.recorded:
            return EXECUTE
        if earlier.done or earlier.state not in DONE_STEP:
            call.execution_id, call.attempt, call.recorded = earlier.execution_id, earlier.attempt, True
        if earlier.done:
            call.state = earlier.state
            return Answer(kind="prior", outputs=earlier.outputs, source=earlier.execution_id)
        if earlier.state not in DONE_STEP:
            call.state = earlier.state
        return EXECUTE

    def find(self, call: Call, key: Key) -> Answer:
        """Say what is to become of a call whose inputs are there."""
        again = self._prior.again
        forced = again is not None and again.forces(call)
        found = self.adopt(call, key)
        if found.kind == "prior" or forced:
            call.alone = call.alone or forced
            return found
        old = again.find(key.digest, call.occurrence) if again is not None else None
        if old is not None:
            return Answer(kind="cached", outputs=old.outputs, source=f"{old.execution_id} of the run that is run again")
        if not key.reusable:
            return EXECUTE
        leader = self._leaders.setdefault(key.digest, call)
        if leader is not call:
            leader.dependents.append(call)
            call.missing += 1
            return FOLLOW
        return self._look_elsewhere(call, key)

    def forget(self, call: Call) -> None:
        """Take note that a call has ended: others with its key look for its answer in the cache."""
        if call.key is not None and self._leaders.get(call.key.digest) is call:
            del self._leaders[call.key.digest]

    def _look_elsewhere(self, call: Call, key: Key) -> Answer:
        if call.looks >= _PATIENT_LOOKS:  # so that it does not wait for the dead
            self._journal.fence.patience.keep(lambda: mark_lost(self._journal.store))

        def look(tx: Transaction) -> tuple[Hit | None, Flight | None]:
            flight = find_flight(tx, key.digest, self._journal.run_id) if call.looks else None
            return cache.entry(tx, key.digest), flight

        hit, flight = self._journal.fence.read(look)
        call.seen_answer = hit.execution_id if hit else ""
        if hit is not None and cache.readable(hit.outputs, self._journal.store.blobs):
            if not self._chosen(call, key):
                return Answer(kind="cached", outputs=hit.outputs, source=hit.execution_id)
            call.verifying, call.reason = hit, f"verifies the answer of {hit.execution_id}"
            return EXECUTE
        if flight is not None:
            return Answer(kind="wait", source=flight.run_id)
        return EXECUTE

    def _chosen(self, call: Call, key: Key) -> bool:
        """Say whether a hit is one of the share that is executed again: the same ones whenever the run is resumed."""
        share = call.step.options.verify
        if not share:
            return False
        drawn = hashlib.blake2b(f"{self._journal.run_id}/{key.digest}".encode(), digest_size=8).digest()
        return int.from_bytes(drawn, "big") < share * 2**64
