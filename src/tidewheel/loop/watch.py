"""Take in what production brought: windows and alerts, the rollout's evidence, labelled rows."""

from __future__ import annotations

from pathlib import Path

from tidewheel.lineage.store import Store
from tidewheel.loop.collect import Collector
from tidewheel.loop.loop import Loop
from tidewheel.loop.state import Claim
from tidewheel.monitoring.observe import observe
from tidewheel.monitoring.records import Window
from tidewheel.predictions.join import Joiner
from tidewheel.predictions.segments import log_folder
from tidewheel.registry.traffic import Traffic
from tidewheel.rollout.advance import advance
from tidewheel.rollout.records import Decision

Stamp = tuple[tuple[str, int], ...]


class Watcher:
    """Looks at one model's log for the monitor, the rollout and the dataset; each has a cursor, so each a joiner.

    When neither the log nor the traffic has changed since two looks ago there is nothing to see: the last look began
    where the one before had ended, and found nothing. That makes an idle tick cheap.
    """

    def __init__(self, store: Store, loop: Loop) -> None:
        folder = log_folder(store.home, loop.model)
        self._store, self._loop, self._folder = store, loop, folder
        self._monitor, self._rollout = Joiner(folder), Joiner(folder)
        self.collector = Collector(store, loop)
        self._seen: list[tuple[Stamp, int]] = []  # log and traffic of the last two looks

    def stirred(self, claim: Claim, traffic: Traffic) -> bool:
        """Say whether there may be something to see."""
        if traffic.challenger is not None or not self.collector.follows(claim):
            return True
        return self._seen != [(_stamp(self._folder), traffic.seq)] * 2

    def look(self, claim: Claim, traffic: Traffic) -> tuple[list[Window], Decision | None]:
        """Observe, advance the rollout, collect; return the windows that became full and what the rollout decided."""
        before = _stamp(self._folder), traffic.seq
        windows = observe(self._store, self._loop.model, policy=self._loop.policy, joiner=self._monitor)
        decision = advance(self._store, self._loop.model, joiner=self._rollout)
        more = True
        while more:
            more = self.collector.look(claim)
            if self.collector.waiting >= self._loop.collect_rows:
                self.collector.keep(claim)
        self._seen = [*self._seen[-1:], before]
        return windows, decision


def _stamp(folder: Path) -> Stamp:
    try:
        return tuple(sorted((entry.name, entry.stat().st_size) for entry in folder.iterdir()))
    except FileNotFoundError:
        return ()
