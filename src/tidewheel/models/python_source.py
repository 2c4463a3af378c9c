"""Small models as one file of Python that imports nothing but the standard library."""

from __future__ import annotations

from tidewheel.models.formulas import Formula, Step
from tidewheel.models.signature import Signature

_HEAD = '''"""{title}

Written by tidewheel; needs nothing but Python. `predict(row)` takes one value per field, in this order:
{fields}
None and NaN are missing values.
"""

import ctypes
import math

inf, nan = math.inf, math.nan  # as they are written below
FIELDS = {names!r}
CLASSES = {classes!r}
'''

_CODE = '''

def predict(row):
    """Return the class label, or the number, for one row of values in the order of FIELDS."""
    answers = _answers(row)
    if CLASSES is None:
        return answers[0]
    return CLASSES[max(range(len(CLASSES)), key=lambda place: (answers[place], -place))]


def predict_proba(row):
    """Return one probability per class, in the order of CLASSES."""
    if not PROBABILITIES:
        raise TypeError("this model gives no probabilities")
    return _answers(row)


def _answers(row):
    values = _prepared(row)
    sums = [0.0] * OUTPUTS
    for output, nodes in TREES:
        for place, value in enumerate(_leaf(nodes, values)):
            sums[output + place] += value
    raw = [start + SCALE * total for start, total in zip(BASE, sums)]
    for output, weights in enumerate(WEIGHTS):
        raw[output] += math.fsum(weight * value for weight, value in zip(weights, values))
    return _linked(raw)


def _prepared(row):
    if len(row) != len(FIELDS):
        raise ValueError("%d values were given, the model takes %d" % (len(row), len(FIELDS)))
    values = [_number(place, value) for place, value in enumerate(row)]
    for fill, shift, scale in STEPS:
        if fill:
            values = [start if math.isnan(value) else value for value, start in zip(values, fill)]
        if shift:
            values = [(value - low) / by for value, low, by in zip(values, shift, scale)]
    if MISSING_REFUSED and any(math.isnan(value) for value in values):
        raise ValueError("a value is missing, and the model was fitted without missing values")
    return [ctypes.c_float(value).value for value in values] if SINGLE else values


def _number(place, value):
    if value is None:
        return math.nan
    if place in LEVELS:
        return LEVELS[place].get(value, math.nan)
    return float(value)


def _leaf(nodes, values):
    feature, threshold, left, right, missing_left, leaves, sets = nodes
    node = 0
    while left[node] >= 0:
        value = values[feature[node]]
        if node in sets:
            goes_left = missing_left[node] if math.isnan(value) else int(value) in sets[node]
        elif math.isnan(value) or (ZERO_IS_MISSING and abs(value) <= 1e-35):
            goes_left = missing_left[node]
        else:
            goes_left = value < threshold[node] if STRICT else value <= threshold[node]
        node = left[node] if goes_left else right[node]
    return leaves[node]


def _linked(raw):
    if LINK == "exp":
        return [math.exp(value) for value in raw]
    if LINK == "sigmoid":
        second = _sigmoid(raw[0])
        return [second] if CLASSES is None else [1 - second, second]
    if LINK == "sign":
        return [-raw[0], raw[0]]
    if LINK == "normalise":
        shares = [_sigmoid(value) for value in raw]
        return [share / sum(shares) for share in shares]
    if LINK == "softmax":
        powers = [math.exp(value - max(raw)) for value in raw]
        return [power / sum(powers) for power in powers]
    return raw


def _sigmoid(value):
    value *= SLOPE
    return 1 / (1 + math.exp(-value)) if value >= 0 else math.exp(value) / (1 + math.exp(value))
'''


def python_source(formula: Formula, signature: Signature, title: str) -> str:
    """Return a module with `predict(row)`, `predict_proba(row)`, FIELDS and CLASSES."""
    settings = {
        "PROBABILITIES": signature.probabilities,
        "OUTPUTS": formula.outputs,
        "LINK": formula.link,
        "BASE": formula.base,
        "SCALE": formula.scale,
        "SLOPE": formula.slope,
        "SINGLE": formula.single,
        "STRICT": formula.strict,
        "ZERO_IS_MISSING": formula.zero_is_missing,
        "MISSING_REFUSED": formula.missing_refused,
        "STEPS": [_step(step) for step in formula.steps],
        "WEIGHTS": formula.weights,
        "LEVELS": {
            place: {_typed(level, signature.fields[place].kind): float(code) for code, level in enumerate(levels)}
            for place, levels in formula.levels.items()
        },
    }
    head = _HEAD.format(
        title=title,
        fields="\n".join(f"  {field.name} ({field.kind})" for field in signature.fields),
        names=tuple(signature.names),
        classes=None if signature.classes is None else tuple(signature.classes),
    )
    lines = [f"{name} = {value!r}" for name, value in settings.items()]
    lines += ["TREES = ["]
    for output, tree in formula.trees:
        sets = {node: tuple(codes) for node, codes in tree.sets.items()}
        parts = (tree.feature, tree.threshold, tree.left, tree.right, tree.missing_left, tree.value, sets)
        lines.append(f"    ({output}, ({', '.join(repr(part) for part in parts)})),")
    lines += ["]"]
    return head.replace("\\", "\\\\") + "\n".join(lines) + "\n" + _CODE


def _step(step: Step) -> tuple[list[float] | None, list[float] | None, list[float] | None]:
    return step.fill, step.shift, step.scale


def _typed(level: str, kind: str) -> object:
    if kind == "string":
        return level
    return level == "True" if kind == "bool" else float(level)
