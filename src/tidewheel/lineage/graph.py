"""Answer "where does it come from" and "what hangs on it" in one recursive query each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tidewheel.database.transaction import Among, Transaction, among
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
    here, there = ("src", "dst") if towards_origin else ("dst", "src")
    # UNION, not UNION ALL: a diamond is walked once per depth.
    sql = f"""
        WITH RECURSIVE reach(id, depth) AS (
            SELECT CAST(:root AS VARCHAR(36)), 0
            UNION
            SELECT edge.{there}, reach.depth + 1
            FROM edge JOIN reach ON edge.{here} = reach.id
            WHERE reach.depth < :most
        )
        SELECT id, MIN(depth) AS depth FROM reach GROUP BY id
    """  # noqa: S608 - names of columns
    return [(row["id"], row["depth"]) for row in tx.rows(sql, root=node_id, most=depth)]


def _edges(tx: Transaction, ids: Iterable[str]) -> tuple[Edge, ...]:
    wanted = list(ids)
    found: list[Edge] = []
    for part in _parts(wanted):
        found += [Edge(**row) for row in tx.rows(f"SELECT * FROM edge WHERE src IN ({part.sql})", **part.values)]  # noqa: S608
    known = set(wanted)
    return tuple(edge for edge in found if edge.dst in known)


_NODES = (
    (
        "SELECT v.id, e.kind, e.name || ':' || CAST(v.seq AS VARCHAR(20)) AS label, v.digest AS detail"
        " FROM version v JOIN entity e ON v.entity_id = e.id WHERE v.id"
    ),
    "SELECT id, kind, job AS label, state AS detail FROM execution WHERE id",
    "SELECT id, kind, name AS label, '' AS detail FROM entity WHERE id",
)


def _nodes(tx: Transaction, depths: dict[str, int]) -> list[Node]:
    nodes: list[Node] = []
    for part in _parts(list(depths)):
        for query in _NODES:
            rows = tx.rows(f"{query} IN ({part.sql})", **part.values)
            nodes += [Node(**row, depth=depths[row["id"]]) for row in rows]
    return nodes


def _parts(ids: list[str]) -> Iterator[Among]:
    """Yield ids in parts that a statement can hold."""
    for start in range(0, len(ids), 500):
        yield among("id", ids[start : start + 500])
