"""One of the workers of a server: an engine and a front on a socket that the parent has bound."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from tidewheel.lineage.store import Store
from tidewheel.serving.engine import DEFAULT_TERMS, Engine
from tidewheel.serving.front import run
from tidewheel.serving.link import Link, Order, Report
from tidewheel.serving.manner import PLAIN, Manner
from tidewheel.serving.tallies import Tallies
from tidewheel.serving.terms import Terms


class Neighbours:
    """The other workers, whom the parent speaks for."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def prepared(self, model: str, seq: int) -> None:
        """Say that a deployment is loaded, warm and checked."""
        self._link.say(Report(kind="prepared", model=model, seq=seq))

    def refused(self, model: str, seq: int, reason: str) -> None:
        """Say that a deployment could not be loaded."""
        self._link.say(Report(kind="refused", model=model, seq=seq, reason=reason))


def work(
    store: Store,
    listening: socket.socket,
    link: Link,
    *,
    models: Sequence[str] | None = None,
    strict: bool = False,
    trust: bool = False,
    manner: Manner = PLAIN,
    terms: Terms = DEFAULT_TERMS,
) -> None:
    """Answer on a socket until SIGTERM, or until the parent is gone, then drain and return. See `front.serve`."""
    order = link.order
    engine = Engine(
        store,
        models,
        writer=order.name,
        strict=strict,
        trust=trust,
        limits=manner.limits,
        terms=terms,
        peers=Neighbours(link),
        tallies=Tallies(Path(order.folder), order.number),
    )

    def heard(said: Order) -> None:
        for model, seq in said.flips.items():
            engine.fleet.flip(model, seq)

    link.listen(heard)
    beat = Report(kind="beat")
    run(
        engine,
        listening,
        manner,
        lambda: link.say(Report(kind="ready")),
        beat=lambda: link.say(beat),
    )
