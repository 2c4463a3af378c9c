"""What people say of a model or of one of its versions: owner, description, tags and the fields of its card.

Each is a row of its own, so that two people who change two of them do not undo each other; every change is a governing
event, from which the history is read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from tidewheel.clock import from_micros, micros
from tidewheel.database.transaction import Transaction
from tidewheel.errors import InvalidInput, NotFound
from tidewheel.lineage.read import find_entity, list_events
from tidewheel.lineage.write import append_event
from tidewheel.registry.annotated import FIELDS, TAG, read_annotations
from tidewheel.registry.scope import Scope, moment, reading, writing
from tidewheel.registry.versions import KIND, get_model, lock_model

LONGEST = 10_000  # characters of a value
_TAG_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-/ ]{0,79}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """What is said now."""

    name: str  # owner, description, another field of the card, or tags.<name>
    value: str  # what it says
    at: datetime  # since when
    by: str  # who said it


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnotationChange:
    """Somebody said something else."""

    name: str  # owner, description, another field of the card, or tags.<name>
    version: int | None  # number of the version it is said of; None: the model
    before: str | None  # what was said before; None: nothing
    after: str | None  # what is said since; None: it was taken away
    at: datetime  # when
    by: str  # who changed it
    reason: str  # why, if they said so


def annotate(
    scope: Scope,
    reference: str,
    changes: Mapping[str, str | None],
    *,
    by: str,
    reason: str = "",
    at: datetime | None = None,
) -> dict[str, Annotation]:
    """Say something of a model (`bikes`) or of one version (`bikes:3`, `bikes@champion`); return all that holds now.

    Names are `owner`, `description`, `intended_use`, `limitations`, `ethics`, `contact`, `licence` or `tags.<name>`;
    None takes a value away. What holds already is no change. Inside the caller's transaction `at` must be given.

    Raises NotFound for an unknown model, version or name, Conflict for a deleted version, InvalidInput for a tag's name
    or a value that cannot be kept.
    """
    when = moment(scope, at)
    for name, value in changes.items():
        _check(name, value)
    with writing(scope) as tx:
        entity_id, seq = _subject(tx, reference, lock=True)
        held = read_annotations(tx, entity_id).get(seq, {})
        changed = {name: value for name, value in changes.items() if held.get(name) != value}
        for name, value in changed.items():
            _write(tx, (entity_id, seq, name), value, by=by, at=when)
        if changed:
            model = re.split("[:@]", reference, maxsplit=1)[0]
            said = {name: {"before": held.get(name), "after": value} for name, value in changed.items()}
            body = {"model": model, "version": seq or None, "changes": said, "reason": reason, "text": _text(said)}
            append_event(tx, "model.annotated", body, at=when, subject_id=entity_id, by=by, governs=True)
        return _current(tx, entity_id, seq)


def annotations_of(scope: Scope, reference: str) -> dict[str, Annotation]:
    """Return what is said of a model, or of one version alone, by name; NotFound for an unknown one."""
    with reading(scope) as tx:
        return _current(tx, *_subject(tx, reference))


def annotation_history(scope: Scope, name: str) -> list[AnnotationChange]:
    """Return every change of what was said of a model and its versions, newest first."""
    with reading(scope) as tx:
        entity_id = find_entity(tx, KIND, name).id
        events = list_events(
            tx, subject_id=entity_id, type_prefix="model.annotated", limit=1_000_000, newest_first=True
        )
    return [
        AnnotationChange(
            name=changed,
            version=event.body["version"],
            before=said["before"],
            after=said["after"],
            at=event.at,
            by=event.by,
            reason=event.body["reason"],
        )
        for event in events
        for changed, said in event.body["changes"].items()
    ]


def _subject(tx: Transaction, reference: str, *, lock: bool = False) -> tuple[str, int]:
    """Return the model and the version that a reference means; 0 is the model itself."""
    entity_id = find_entity(tx, KIND, re.split("[:@]", reference, maxsplit=1)[0]).id
    if lock:
        lock_model(tx, entity_id)
    whole = not re.search("[:@]", reference)
    return entity_id, 0 if whole else get_model(tx, reference, deleted=not lock).seq


def _current(tx: Transaction, entity_id: str, seq: int) -> dict[str, Annotation]:
    rows = tx.rows(
        "SELECT name, value, at, actor FROM model_annotation WHERE entity_id = :entity AND seq = :seq ORDER BY name",
        entity=entity_id,
        seq=seq,
    )
    return {
        row["name"]: Annotation(name=row["name"], value=row["value"], at=from_micros(row["at"]), by=row["actor"])
        for row in rows
    }


def _write(tx: Transaction, key: tuple[str, int, str], value: str | None, *, by: str, at: datetime) -> None:
    entity_id, seq, name = key
    if value is None:
        tx.run(
            "DELETE FROM model_annotation WHERE entity_id = :entity AND seq = :seq AND name = :name",
            entity=entity_id,
            seq=seq,
            name=name,
        )
        return
    tx.run(
        "INSERT INTO model_annotation (entity_id, seq, name, value, at, actor)"
        " VALUES (:entity, :seq, :name, :value, :at, :by) ON CONFLICT (entity_id, seq, name)"
        " DO UPDATE SET value = excluded.value, at = excluded.at, actor = excluded.actor",
        entity=entity_id,
        seq=seq,
        name=name,
        value=value,
        at=micros(at),
        by=by,
    )


def _check(name: str, value: str | None) -> None:
    if name.startswith(TAG):
        if not _TAG_NAME.fullmatch(name.removeprefix(TAG)):
            raise InvalidInput(
                f"{name.removeprefix(TAG)[:100]!r} cannot be the name of a tag.",
                "Use letters, digits, spaces and _ . - / (at most 80 characters).",
            )
    elif name not in FIELDS:
        raise NotFound("field of a model", name, (*FIELDS, "tags.NAME"))
    if value is not None and (len(value) > LONGEST or "\x00" in value):
        raise InvalidInput(
            f"The value of {name} has {len(value):,} characters or holds a null.", f"Write at most {LONGEST:,}."
        )


def _text(said: Mapping[str, Mapping[str, str | None]]) -> str:
    parts = (f"{name} removed" if one["after"] is None else f"{name} = {one['after']}" for name, one in said.items())
    return ", ".join(parts)[:500]
