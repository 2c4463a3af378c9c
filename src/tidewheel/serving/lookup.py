"""`GET /lookup/{model}/{id}`: what was computed ahead for an id, and how old it is."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tidewheel.errors import NotFound
from tidewheel.lineage.store import Store
from tidewheel.scoring.online import OnlineStore, open_online
from tidewheel.serving.response import Response, json_response
from tidewheel.serving.routes import Match


class Lookups:
    """Answers look-ups; the online store is opened when the first one comes."""

    def __init__(self, store: Store, now_us: Callable[[], int]) -> None:
        self._store = store
        self._now_us = now_us
        self._online: OnlineStore | None = None

    def answer(self, found: Match) -> Response:
        """Return value, model version, when it was computed and its age in seconds; 404 for an unknown id."""
        if self._online is None:
            self._online = open_online(self._store.online_url, self._store.home)
        model, wanted = found.values["model"], found.values["id"]
        (held,) = self._online.get_many(model, [wanted])
        if held is None:
            live = self._online.live(model)
            mend = (
                f"Nothing was computed ahead for {model}: tidewheel precompute {model} DATASET --key COLUMN"
                if live is None
                else f"{live.rows:,} ids were computed ahead by {live.version}; send its row to /predict/{model}."
            )
            raise NotFound(f"answer of {model}", wanted[:200], mend=mend)
        at = held.generation.at
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)
        content = {
            "id": wanted,
            "model": model,
            **held.value,
            "version": held.generation.version.rpartition(":")[2],
            "at": moment.isoformat(),
            "age_seconds": max(self._now_us() - at, 0) / 1e6,
        }
        return json_response(200, content)
