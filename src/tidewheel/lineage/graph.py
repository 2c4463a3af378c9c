"""Answer "where does it come from" and "what hangs on it" in one recursive query each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa

from tidewheel.database.transaction import Transaction
from tidewheel.lineage import tables
from tidewheel.lineage.records import Edge


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A thing in the graph, ready to be shown."""

    id: str  # id of the version, execution, entity or event
    kind: str  # dataset, model, run, step ...
    label: str  # bikes:3, bikes.fit
    depth: int  # steps from where the walk began; negative towards the origins
    detail: str  # digest or state


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The part of the graph around one node."""

    root: str  # id of the node the walk began at
    nodes: tuple[Node, ...]  # nearest first
    edges: tuple[Edge, ...]  # arrows between those nodes


def graph(tx: Transaction, node_id: str, *, up: bool = True, down: bool = True, depth: int = 20) -> Graph:
    """Walk from a node to its origins (`up`), to what hangs on it (`down`), at most `depth` arrows."""
    depths = {node_id: 0}
    if up:
        depths |= {found: -far for found, far in _reach(tx, node_id, depth, towards_origin=True) if found != node_id}
    if down:
        found_down = _reach(tx, node_id, depth, towards_origin=False)
        depths |= {found: far for found, far in found_down if found not in depths}
    edges = _edges(tx, depths)
    nodes = sorted(_nodes(tx, depths), key=lambda node: (abs(node.depth), node.kind, node.label))
    return Graph(root=node_id, nodes=tuple(nodes), edges=edges)


def _reach(tx: Transaction, node_id: str, depth: int, *, towards_origin: bool) -> list[tuple[str, int]]:
    edge = tables.edge
    here, there = (edge.c.src, edge.c.dst) if towards_origin else (edge.c.dst, edge.c.src)
    start = sa.select(sa.literal(node_id).label("id"), sa.literal(0).label("depth")).cte("reach", recursive=True)
    step = sa.select(there, start.c.depth + 1).join(start, here == start.c.id).where(start.c.depth < depth)
    reach = start.union(step)  # union, not union all: a diamond is walked once per depth
    rows = tx.execute(sa.select(reach.c.id, sa.func.min(reach.c.depth)).group_by(reach.c.id))
    return [(row[0], row[1]) for row in rows]


def _edges(tx: Transaction, ids: Iterable[str]) -> tuple[Edge, ...]:
    table, wanted = tables.edge, list(ids)
    found: list[Edge] = []
    for start in range(0, len(wanted), 500):
        rows = tx.execute(sa.select(table).where(table.c.src.in_(wanted[start : start + 500])))
        found += [Edge(**row._mapping) for row in rows]
    known = set(wanted)
    return tuple(edge for edge in found if edge.dst in known)


def _nodes(tx: Transaction, depths: dict[str, int]) -> list[Node]:
    entity, version, execution = tables.entity, tables.version, tables.execution
    label = entity.c.name + ":" + sa.cast(version.c.seq, sa.String)
    kinds = (
        sa.select(version.c.id, entity.c.kind, label, version.c.digest).join(
            entity, version.c.entity_id == entity.c.id
        ),
        sa.select(execution.c.id, execution.c.kind, execution.c.job, execution.c.state),
        sa.select(entity.c.id, entity.c.kind, entity.c.name, sa.literal("")),
    )
    nodes: list[Node] = []
    wanted = list(depths)
    for start in range(0, len(wanted), 500):
        part = wanted[start : start + 500]
        for query in kinds:
            rows = tx.execute(query.where(query.selected_columns[0].in_(part)))
            nodes += [Node(id=row[0], kind=row[1], label=row[2], detail=row[3], depth=depths[row[0]]) for row in rows]
    return nodes
