"""Records of the graph, as read from its tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """A long-lived named thing: dataset, model, pipeline, endpoint, trigger, principal."""

    id: str  # UUIDv7
    kind: str  # dataset, model, pipeline, artifact, endpoint, environment, trigger, policy or principal
    name: str  # unique within its kind
    at: datetime  # when it was first named
    facets: Mapping[str, Any]  # owner, description and the like


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """An immutable version of an entity; the digest of its content is its identity."""

    id: str  # UUIDv7
    entity_id: str  # the entity it is a version of
    seq: int  # 1, 2, 3 ... within the entity
    digest: str  # sha256:<hex> of the content
    uri: str  # where the content came from, if anywhere
    media_type: str  # what the content is
    size: int  # bytes
    schema: Any  # the room's own description of the shape
    state: str  # LIVE, or DELETED when the payload is gone and the metadata stay
    facets: Mapping[str, Any]  # the room's own facts
    at: datetime  # when it was recorded


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """Something that happened over a time: run, step attempt, evaluation, rollout, ingestion."""

    id: str  # UUIDv7
    kind: str  # run, step, evaluation, rollout, tick or ingestion
    job: str  # what was executed: the pipeline's or step's name
    parent_id: str | None  # the run of a step
    state: str  # state of the room's own transition table
    owner: str  # the process that holds it
    fencing: int  # token that grows with every claim; a stale one cannot write
    code_digest: str  # digest of the code closure
    environment_digest: str  # digest of the environment
    parameters: Mapping[str, Any]  # resolved parameters
    started: datetime  # begin
    ended: datetime | None  # end, when it has ended
    error: str | None  # what went wrong, when it did
    facets: Mapping[str, Any]  # the room's own facts


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """An arrow from the later thing to the earlier: run used dataset, model derived dataset."""

    src: str  # id of the later thing
    relation: str  # used, generated, derived, part_of, triggered_by, evaluated, approved, served_by, supersedes
    dst: str  # id of the earlier thing
    role: str  # what it was to the other: a parameter's name
    idx: int  # position where order matters


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A fact in the append-only journal; those that govern are hash-chained."""

    seq: int  # order of the journal
    id: str  # UUIDv7
    at: datetime  # when
    type: str  # dotted name: alias.moved, rollout.promoted
    subject_id: str  # what it is about: an entity's, version's or execution's id
    execution_id: str  # the execution it happened in, or ""
    by: str  # who or what did it
    body: Any  # its numbers
    governs: bool  # whether it is part of the audit log
    digest: str  # link of the hash chain, "" for events that do not govern


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """A name that pointed to a version for a time; the open one has no end."""

    entity_id: str  # of which entity
    name: str  # champion, challenger, prod
    version_id: str | None  # None: the name was taken away
    valid_from: datetime  # begin
    valid_to: datetime | None  # end, None while it holds
    by: str  # who moved it
    reason: str  # why
