"""What the pages of runs show, as plain values; the HTML and `/api/runs` are two renderings of these records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Which runs are asked for, as they stand in the address."""

    pipeline: str = ""  # name of the pipeline
    state: str = ""  # one state
    since: str = ""  # 2h, 3d, 2026-03-02
    param: str = ""  # name=value
    cause: str = ""  # kind of the cause, or a part of its reason
    limit: int = 50  # how many, newest first


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """One run in the list."""

    id: str  # execution id
    pipeline: str  # name of the pipeline
    state: str  # where it stands
    cause: str  # why it started, in words
    parameters: str  # name=value, name=value
    started: datetime  # begin
    ended: datetime | None  # end; None while it goes on
    error: str  # first line of what went wrong; empty otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class RunList:
    """The list of runs at one moment."""

    at: datetime  # when it was read
    home: str  # last two folders of the path of the home
    filters: Filters  # what was asked for
    pipelines: tuple[str, ...]  # every pipeline that has been run
    states: tuple[str, ...]  # every state of a run
    rows: tuple[RunRow, ...]  # newest first


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """One call of a step, or all calls of a step of which there are many."""

    name: str  # of the call, or of the step
    calls: int  # how many calls it stands for
    state: str  # where it stands; of several the one that wants attention most
    counts: str  # how many stand where; empty for one
    tries: int  # how often it was begun; 0 when it was answered
    seconds: float | None  # how long it took; None while it goes on
    begins: float  # where on the run's stretch of time it begins, 0 to 1
    lasts: float  # the part of that stretch that it takes, 0 to 1
    used: str  # processor time and memory, where measured
    because: str  # why it was executed, what answered it, or what went wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A box of the graph."""

    name: str  # of the call, step or parameter
    calls: int  # how many calls it stands for; 0 for a parameter
    state: str  # where it stands; empty for a parameter
    layer: int  # column, from 0 on the left
    place: int  # row within the column, from 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The calls of a run and what flows between them."""

    nodes: tuple[Node, ...]  # in the order of the calls, parameters first
    arrows: tuple[tuple[int, int], ...]  # indexes of nodes, from and to


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A value that went in or came out, with a preview."""

    name: str  # of the argument, parameter or output
    kind: str  # how it is kept, or empty
    text: str  # the value, or what it is
    size: str  # bytes for people, or empty
    columns: tuple[str, ...] = ()  # of a table
    rows: tuple[tuple[str, ...], ...] = ()  # its first ones


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDetail:
    """One call in full."""

    name: str  # of the call
    id: str  # its execution
    state: str  # where it stands
    because: tuple[str, ...]  # why, and what differs from the last time
    key: str  # cache key
    inputs: tuple[Piece, ...]  # arguments
    outputs: tuple[Piece, ...]  # what it gave
    usage: Mapping[str, str]  # what it took, with units, where measured
    log_file: str  # where its output is kept
    log: tuple[str, ...]  # the last lines of it
    error: str  # what went wrong; empty otherwise


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    """One run at one moment."""

    at: datetime  # when it was read
    home: str  # last two folders of the path of the home
    run: RunRow  # what the list says of it
    live: bool  # whether it still goes on
    counts: str  # how many calls stand where
    error: str  # what went wrong, in full
    causes: tuple[str, ...]  # why it was started, and why that, nearest first
    parameters: tuple[Piece, ...]  # what it was given
    inputs: tuple[Piece, ...]  # what the store picked for it
    outputs: tuple[Piece, ...]  # what it returned
    facts: Mapping[str, str] = field(default_factory=dict)  # code, commit, Python, host ...
    steps: tuple[StepRow, ...] = ()  # its calls in order, or its steps when there are many
    graph: Graph = Graph(nodes=(), arrows=())  # what flows between them
    shown: StepDetail | None = None  # the call that was asked for
    group: tuple[StepRow, ...] = ()  # calls of the step that was asked for, those that failed first
    reproduce: str = ""  # the command that runs it again
