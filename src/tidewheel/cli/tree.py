"""Print a part of the lineage graph as a tree, origins above, consequences below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidewheel.cli.show import screen

if TYPE_CHECKING:
    from rich.tree import Tree

    from tidewheel.lineage.graph import Graph, Node


def print_tree(graph: Graph) -> None:
    """Print the walk in both directions; a thing that was shown already is shown once more by name alone."""
    from rich.tree import Tree

    nodes = {node.id: node for node in graph.nodes}
    root = nodes[graph.root]
    console = screen()
    for heading, towards_origin in (("comes from", True), ("is used by", False)):
        tree = Tree(_text(root, heading))
        _grow(tree, graph, nodes, root.id, towards_origin=towards_origin, seen={root.id})
        if tree.children:
            console.print(tree)
    if len(nodes) == 1:
        console.print(_text(root, "stands alone: nothing is linked to it yet"))


def _grow(
    tree: Tree, graph: Graph, nodes: dict[str, Node], node_id: str, *, towards_origin: bool, seen: set[str]
) -> None:
    for edge in graph.edges:
        here, there = (edge.src, edge.dst) if towards_origin else (edge.dst, edge.src)
        if here != node_id or there not in nodes:
            continue
        if nodes[there].depth * (-1 if towards_origin else 1) <= 0:
            continue
        relation = edge.relation + (f" as {edge.role}" if edge.role else "")
        branch = tree.add(_text(nodes[there], relation))
        if there not in seen:
            seen.add(there)
            _grow(branch, graph, nodes, there, towards_origin=towards_origin, seen=seen)


def _text(node: Node, relation: str) -> str:
    from rich.markup import escape

    detail = node.detail[:19]
    return f"[dim]{escape(relation)}[/dim] [bold]{escape(node.label)}[/bold] [dim]{escape(node.kind)} {detail}[/dim]"
