"""Triggers on calls from outside, let in by `POST /api/hooks/NAME` of the page's server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidewheel.clock import from_micros, micros
from tidewheel.errors import Conflict, InvalidInput, NotFound, NotReady, TooLarge
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import append_event, check_name
from tidewheel.pipelines.secrets import find_secrets
from tidewheel.triggers.deliveries import Delivery, deliveries_since, keep_delivery
from tidewheel.triggers.items import turn, waiting
from tidewheel.triggers.records import Context, Item, Reading, Rule
from tidewheel.triggers.signature import signed, verify

LIMIT = 1_048_576  # bytes of a call


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook(Rule):
    """Somebody outside has called."""

    hook: str  # its name, the last part of the address
    secret: str  # name of the secret that calls are signed with
    each: bool = False  # whether each delivery has a run of its own

    @property
    def name(self) -> str:
        """The trigger as declared."""
        return f"webhook({self.hook})"

    def look(self, context: Context) -> Reading:
        """Hold for deliveries since the first look that are not used up."""
        armed = context.remembered(self.name)
        if armed is None:
            return self._waits("counts from now on", {self.name: micros(context.now)})
        with context.store.database.reading() as tx:
            came = deliveries_since(tx, self.hook, from_micros(armed))
        used = context.used_up(self.name)
        found = turn([delivery for delivery in came if delivery.id not in used], each=self.each)
        if not found:
            return self._waits("no new delivery", {})
        items = [Item(source=self.name, name=delivery.id, stamp="") for delivery in found]
        bodies = [_read(delivery.body) for delivery in found]
        numbers: dict[str, object] = {
            "deliveries": [delivery.id for delivery in found],
            "bodies": bodies,
            "body": bodies[-1],
        }
        return waiting(self._waits("", {}), "webhook", items, numbers, "new delivery")

    def _waits(self, reason: str, keep: Mapping[str, Any]) -> Reading:
        return Reading(rule=self.name, kind="webhook", holds=False, reason=reason, keep=keep)


def _read(body: str) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body


def webhook(name: str, *, secret: str, each: bool = False) -> Webhook:
    """Be due when somebody calls `POST /api/hooks/NAME` with a signature; each delivery counts once.

    `secret` names the secret that calls are signed with: an environment variable, or a file in the folder of secrets.
    One run takes all deliveries that wait, or each has its own with `each`; parameters may take `event("body")`,
    `event("bodies")` and `event("deliveries")`.

    Raises InvalidInput without a secret: anybody could call.
    """
    if not secret:
        raise InvalidInput(
            f"webhook({name!r}) has no secret, so anybody could start a run.",
            f'Name one: webhook({name!r}, secret="CI_SECRET"), and set the variable CI_SECRET.',
        )
    return Webhook(hook=check_name("webhook", name), secret=secret, each=each)


def secret_of(store: Store, hook: str, secret: str) -> str:
    """Return the value of a webhook's secret; raises NotFound when it is not set."""
    return find_secrets([secret], store.secrets, wanted_by=f"webhook {hook}").revealed()[secret]


def receive(store: Store, name: str, hooks: Mapping[str, str], headers: Mapping[str, str], body: bytes) -> Delivery:
    """Let a call in: check its size, time and signature, and keep it once; the next look of a trigger acts on it.

    `hooks` are the declared ones with the names of their secrets.

    Raises NotFound for an unknown webhook, TooLarge, Unauthorized, NotReady when the secret is not set here,
    InvalidInput for what is not text, Conflict for a delivery that came before.
    """
    if name not in hooks:
        raise NotFound("webhook", name, mend="Declare it in a trigger: webhook(NAME, secret=...).")
    if len(body) > LIMIT:
        raise TooLarge(f"The call has {len(body):,} bytes; {LIMIT:,} are allowed.", "Send a reference instead.")
    try:
        secret = secret_of(store, name, hooks[name])
    except NotFound as error:
        raise NotReady(f"The secret of the webhook {name} is not set at this server.", error.mend) from error
    said, now = signed(headers), store.clock.now()
    verify(secret, said, body, now.timestamp())
    delivery = Delivery(id=said.id, at=now, body=_text(body))
    with store.database.transaction() as tx:
        new = keep_delivery(tx, name, delivery)
        if new:
            append_event(tx, "webhook.delivered", {"webhook": name, "delivery": said.id}, at=now, subject_id=name)
    if not new:
        raise Conflict(f"The delivery {said.id} came before.", "Nothing is lost: it counts once.")
    return delivery


def _text(body: bytes) -> str:
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput("The call is not text in UTF-8.", "Send JSON.") from error
    if "\0" in text:
        raise InvalidInput("The call holds a zero character.", "Send JSON.")
    return text
