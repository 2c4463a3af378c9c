"""Inputs that the store picks when a run begins, and pins: the newest dataset, a window of it, the champion."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from tidewheel.errors import InvalidInput
from tidewheel.pipelines.active import recorder
from tidewheel.pipelines.wish import Input


def latest(name: str) -> Any:
    """Pick the newest version of a dataset when the run begins; the step gets its rows as a Polars frame.

    >>> latest("bikes")
    latest('bikes')
    """
    return _wished(Input(kind="dataset", name=name))


def window(name: str, *, last: int | None = None, rows: int | None = None) -> Any:
    """Pick the newest part of a dataset: the rows of its `last` versions, or its newest `rows` rows.

    >>> window("bikes", last=7)
    window('bikes', last=7)

    Raises InvalidInput unless exactly one of the two is given and is at least 1.
    """
    given = [size for size in (last, rows) if size is not None]
    if len(given) != 1 or isinstance(given[0], bool) or given[0] < 1:
        raise InvalidInput(
            f"window({name!r}, last={last!r}, rows={rows!r}) has no size.",
            "Give last=7 (versions) or rows=5000, one of them, at least 1.",
        )
    return _wished(Input(kind="dataset", name=name, last=last, rows=rows))


def champion(name: str) -> Any:
    """Pick the bundle of a model's champion when the run begins; `.scorer()` of it predicts.

    >>> champion("bikes")
    champion('bikes')
    """
    return _wished(Input(kind="model", name=name, alias="champion"))


def as_of(moment: datetime, wished: Any) -> Any:
    """Pick an input as the store knew it at a moment (aware): `as_of(moment, latest("bikes"))`.

    Raises InvalidInput for a naive moment or something that is not an input.
    """
    if moment.tzinfo is None:
        raise InvalidInput(f"The moment {moment.isoformat()} has no time zone.", "Give datetime(..., tzinfo=UTC).")
    if type(wished) is not Input:
        raise InvalidInput(
            f"{wished!r} is not an input that the store picks.", 'Write as_of(moment, latest("bikes")) as a default.'
        )
    return replace(wished, at=moment)


def _wished(wish: Input) -> Any:
    """Hand a wish made in the body of a running pipeline to the run at once; elsewhere keep it as it is."""
    taker = recorder()
    return wish if taker is None else taker.pick(wish)
