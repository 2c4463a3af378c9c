"""Trees inside estimators and inside ONNX graphs: where rounding decides which branch a row takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeCount:
    """How many tree nodes an estimator holds."""

    forest: int  # nodes of decision trees: alone, in forests, in gradient boosting
    boosting: int  # nodes of histogram gradient boosting


def count_trees(estimator: Any) -> TreeCount:
    """Count the nodes of all trees inside an estimator, at any depth of pipelines and ensembles."""
    found = list(_nodes(estimator, set()))
    return TreeCount(
        forest=sum(size for size, boosting in found if not boosting),
        boosting=sum(size for size, boosting in found if boosting),
    )


def _nodes(part: Any, seen: set[int]) -> Iterator[tuple[int, bool]]:
    """Yield (nodes of a tree, whether it belongs to histogram gradient boosting)."""
    if isinstance(part, np.ndarray):
        part = part.ravel().tolist() if part.dtype == object else ()
    if isinstance(part, list | tuple):
        for item in part:
            yield from _nodes(item, seen)
        return
    if id(part) in seen or not type(part).__module__.startswith("sklearn."):
        return
    seen.add(id(part))
    tree, nodes = getattr(part, "tree_", None), getattr(part, "nodes", None)
    if tree is not None and hasattr(tree, "node_count"):
        yield int(tree.node_count), False
    elif isinstance(nodes, np.ndarray):
        yield len(nodes), True
    else:
        for value in getattr(part, "__dict__", {}).values():
            yield from _nodes(value, seen)


def round_before_trees(graph: Any) -> None:
    """Cast to float32 in front of every tree ensemble of a float64 graph, in place.

    A threshold of histogram gradient boosting is often a value of the data, so `x <= threshold` is decided by
    equality. It survives when value and threshold are rounded once each, as here; it does not when a scaler in
    front of the trees has computed in float32 already. ONNX tree ensembles answer in float32, whatever they take.
    """
    from onnx import TensorProto, helper

    rounded: dict[str, str] = {}
    nodes, answers = [], set()
    for node in graph.graph.node:
        if node.op_type.startswith("TreeEnsemble"):
            source = node.input[0]
            if source not in rounded:
                rounded[source] = f"{source}_float32"
                nodes.append(helper.make_node("Cast", [source], [rounded[source]], to=TensorProto.FLOAT))
            node.input[0] = rounded[source]
            answers.update(node.output)
        nodes.append(node)
    del graph.graph.node[:]
    graph.graph.node.extend(nodes)
    for value in (*graph.graph.output, *graph.graph.value_info):
        if value.name in answers and value.type.tensor_type.elem_type == TensorProto.DOUBLE:
            value.type.tensor_type.elem_type = TensorProto.FLOAT
