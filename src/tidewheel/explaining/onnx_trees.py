"""The trees of an ONNX graph; it does not say how many training rows came through a split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tidewheel.explaining.ensemble import Ensemble, Tree, ensemble_of
from tidewheel.explaining.records import Floats

_PASSING = frozenset({"Cast", "Identity"})  # what may stand between the input and the trees


def onnx_ensemble(data: bytes, features: int) -> Ensemble | None:
    """Return the one tree ensemble that reads a graph's one matrix as it is; None for any other graph."""
    import onnx

    graph = onnx.load_from_string(data).graph
    if len(graph.input) != 1:
        return None
    ensembles = [node for node in graph.node if node.op_type.startswith("TreeEnsemble")]
    if len(ensembles) != 1 or ensembles[0].op_type not in ("TreeEnsembleRegressor", "TreeEnsembleClassifier"):
        return None
    makers = {output: node for node in graph.node for output in node.output}
    source = ensembles[0].input[0]
    while source in makers:
        if makers[source].op_type not in _PASSING:
            return None
        source = makers[source].input[0]
    if source != graph.input[0].name:
        return None
    facts = {each.name: onnx.helper.get_attribute_value(each) for each in ensembles[0].attribute}
    return _ensemble(facts, features)


def _ensemble(facts: Mapping[str, Any], features: int) -> Ensemble | None:
    if any(mode not in (b"BRANCH_LEQ", b"LEAF") for mode in facts["nodes_modes"]):
        return None
    if max(facts["nodes_featureids"], default=0) >= features or facts.get("aggregate_function", b"SUM") not in (
        b"SUM",
        b"AVERAGE",
    ):
        return None
    kind = "class" if "class_ids" in facts else "target"
    ids = sorted(set(facts[f"{kind}_ids"]))
    column = {each: place for place, each in enumerate(ids)}
    owners: dict[int, list[int]] = {}
    for place, tree in enumerate(facts["nodes_treeids"]):
        owners.setdefault(tree, []).append(place)
    scale = 1.0 / len(owners) if facts.get("aggregate_function") == b"AVERAGE" else 1.0
    values: dict[tuple[int, int], Floats] = {}
    parts = (facts[f"{kind}_treeids"], facts[f"{kind}_nodeids"], facts[f"{kind}_ids"], facts[f"{kind}_weights"])
    for tree, node, output, weight in zip(*parts, strict=True):
        values.setdefault((tree, node), np.zeros(len(ids)))[column[output]] += weight * scale
    trees = [_tree(facts, tree, places, values, len(ids)) for tree, places in owners.items()]
    base = np.asarray(facts.get("base_values") or np.zeros(len(ids)), dtype=np.float64)
    return ensemble_of(trees, base, single=True) if base.shape == (len(ids),) else None


def _tree(
    facts: Mapping[str, Any], tree: int, places: list[int], values: Mapping[tuple[int, int], Floats], outputs: int
) -> Tree:
    index = {facts["nodes_nodeids"][place]: number for number, place in enumerate(places)}
    leaf = [facts["nodes_modes"][place] == b"LEAF" for place in places]
    missing = facts.get("nodes_missing_value_tracks_true") or [0] * len(facts["nodes_treeids"])
    value = np.zeros((len(places), outputs))
    for number, place in enumerate(places):
        value[number] = values.get((tree, facts["nodes_nodeids"][place]), value[number])
    truth, lie = facts["nodes_truenodeids"], facts["nodes_falsenodeids"]
    return Tree(
        left=[-1 if leaf[n] else index[truth[place]] for n, place in enumerate(places)],
        right=[-1 if leaf[n] else index[lie[place]] for n, place in enumerate(places)],
        feature=[facts["nodes_featureids"][place] for place in places],
        threshold=[facts["nodes_values"][place] for place in places],
        missing_left=[bool(missing[place]) for place in places],
        cover=[1.0] * len(places),
        value=value,
    )
