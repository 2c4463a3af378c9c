"""Small models as one file of C99 that needs nothing but the maths library."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from tidewheel.models.formulas import Formula
from tidewheel.models.signature import Signature

_HEAD = """/* {title}
 *
 * Written by tidewheel; C99, no allocation, no state: compile with -lm.
 *
 * model_predict(row, answers) takes MODEL_COLUMNS doubles in this order, NAN is a missing value:
{fields}
 * and fills MODEL_ANSWERS doubles: {answers}.
 * It returns the place of the class in model_classes (0 for a number), or -1 when a value is missing that the model
 * cannot do without. model_code(column, level) gives the number that stands for a text.
 */
#include <math.h>
#include <string.h>

#define MODEL_COLUMNS {columns}
#define MODEL_ANSWERS {count}
"""

_WALK = """
static int goes_left(const struct tree *tree, int node, double value) {
    int place, at = node + tree->nodes;
    if (isnan(value) || (ZERO_IS_MISSING && set_size[at] == 0 && fabs(value) <= 1e-35)) return missing_left[at];
    if (set_size[at] == 0) return STRICT ? value < threshold[at] : value <= threshold[at];
    for (place = 0; place < set_size[at]; place++)
        if ((int)value == codes[set_start[at] + place]) return 1;
    return 0;
}

static void add_leaf(const struct tree *tree, const double *values, double *sums) {
    int node = 0, place;
    while (left[tree->nodes + node] >= 0)
        node = goes_left(tree, node, values[feature[tree->nodes + node]]) ? left[tree->nodes + node]
                                                                          : right[tree->nodes + node];
    for (place = 0; place < LEAF_WIDTH; place++)
        sums[tree->output + place] += leaves[(tree->nodes + node) * LEAF_WIDTH + place];
}
"""

_TAIL = """
static double sigmoid(double value) {
    value *= SLOPE;
    return value >= 0 ? 1 / (1 + exp(-value)) : exp(value) / (1 + exp(value));
}

static void linked(const double *raw, double *answers) {
    int place;
    double total = 0, highest = raw[0];
    for (place = 0; place < OUTPUTS; place++) {
        answers[place] = raw[place];
        if (raw[place] > highest) highest = raw[place];
    }
    if (LINK == EXP) answers[0] = exp(raw[0]);
    if (LINK == SIGMOID) answers[MODEL_ANSWERS - 1] = sigmoid(raw[0]);
    if (LINK == SIGMOID && MODEL_ANSWERS == 2) answers[0] = 1 - answers[1];
    if (LINK == SIGN) { answers[0] = -raw[0]; answers[MODEL_ANSWERS - 1] = raw[0]; }
    if (LINK != NORMALISE && LINK != SOFTMAX) return;
    for (place = 0; place < OUTPUTS; place++) {
        answers[place] = LINK == NORMALISE ? sigmoid(raw[place]) : exp(raw[place] - highest);
        total += answers[place];
    }
    for (place = 0; place < OUTPUTS; place++) answers[place] /= total;
}

int model_predict(const double *row, double *answers) {
    double values[MODEL_COLUMNS], raw[OUTPUTS];
    int place, column, best = 0;
    for (column = 0; column < MODEL_COLUMNS; column++) {
        double value = row[column];
        for (place = 0; place < STEPS; place++) {
            if (isnan(value)) value = step_fill[place * MODEL_COLUMNS + column];
            value = (value - step_shift[place * MODEL_COLUMNS + column]) / step_scale[place * MODEL_COLUMNS + column];
        }
        if (MISSING_REFUSED && isnan(value)) return -1;
        values[column] = SINGLE ? (double)(float)value : value;
    }
    for (place = 0; place < OUTPUTS; place++) raw[place] = 0;
    for (place = 0; place < TREES; place++) add_leaf(&trees[place], values, raw);
    for (place = 0; place < OUTPUTS; place++) {
        raw[place] = base[place] + SCALE * raw[place];
        for (column = 0; column < LINEAR * MODEL_COLUMNS; column++)
            raw[place] += weights[place * MODEL_COLUMNS + column] * values[column];
    }
    linked(raw, answers);
    for (place = 1; place < MODEL_ANSWERS; place++)
        if (answers[place] > answers[best]) best = place;
    return best;
}

double model_code(int column, const char *level) {
    int place;
    for (place = 0; place < LEVELS; place++)
        if (level_column[place] == column && strcmp(levels[place], level) == 0) return level_code[place];
    return NAN;
}
"""

_LINKS = ("IDENTITY", "EXP", "SIGMOID", "SIGN", "NORMALISE", "SOFTMAX", "SHARES", "ARGMAX")


def c_source(formula: Formula, signature: Signature, title: str) -> str:
    """Return a C file with `model_predict(row, answers)`, `model_classes` and `model_code(column, level)`."""
    classes = signature.classes
    count = 1 if classes is None else max(len(classes), formula.outputs)
    said = "the number" if classes is None else "a probability per class" if signature.probabilities else "margins"
    head = _HEAD.format(
        title=_comment(title),
        fields="\n".join(f" *   {_comment(field.name)} ({field.kind})" for field in signature.fields),
        answers=said,
        columns=formula.columns,
        count=count,
    )
    width = max((len(row) for _, tree in formula.trees for row in tree.value), default=1)
    settings = {
        "OUTPUTS": formula.outputs,
        "TREES": len(formula.trees),
        "LEAF_WIDTH": width,
        "STEPS": len(formula.steps),
        "LINEAR": int(bool(formula.weights)),
        "LEVELS": sum(len(levels) for levels in formula.levels.values()),
        "SCALE": _number(formula.scale),
        "SLOPE": _number(formula.slope),
        "SINGLE": int(formula.single),
        "STRICT": int(formula.strict),
        "ZERO_IS_MISSING": int(formula.zero_is_missing),
        "MISSING_REFUSED": int(formula.missing_refused),
        "LINK": formula.link.upper(),
    }
    defined = "".join(f"#define {name} {value}\n" for name, value in settings.items())
    links = f"enum {{ {', '.join(_LINKS)} }};\n"
    return head + defined + links + _tables(formula, signature, width) + _WALK + _TAIL


def _tables(formula: Formula, signature: Signature, width: int) -> str:
    trees = [tree for _, tree in formula.trees]
    starts, total = [], 0
    for output, tree in formula.trees:
        starts.append(f"{{{total}, {output}}}")
        total += len(tree.feature)
    sizes: list[int] = []
    firsts: list[int] = []
    codes: list[int] = []
    for tree in trees:
        for node in range(len(tree.feature)):
            kept = tree.sets.get(node, [])
            sizes.append(len(kept))
            firsts.append(len(codes))
            codes += kept
    blank = [0.0] * formula.columns
    steps = formula.steps
    names = [str(label) for label in signature.classes or ()]
    texts = [(column, code, level) for column, levels in formula.levels.items() for code, level in enumerate(levels)]
    return "".join(
        (
            "struct tree { int nodes, output; };\n",
            _array("struct tree", "trees", starts),
            _array("int", "feature", [str(place) for tree in trees for place in tree.feature]),
            _array("double", "threshold", [_number(value) for tree in trees for value in tree.threshold]),
            _array("int", "left", [str(child) for tree in trees for child in tree.left]),
            _array("int", "right", [str(child) for tree in trees for child in tree.right]),
            _array("char", "missing_left", [str(int(flag)) for tree in trees for flag in tree.missing_left]),
            _array(
                "double", "leaves", [_number(v) for tree in trees for row in tree.value for v in _padded(row, width)]
            ),
            _array("int", "set_size", [str(size) for size in sizes]),
            _array("int", "set_start", [str(first) for first in firsts]),
            _array("int", "codes", [str(code) for code in codes]),
            _array("double", "base", [_number(value) for value in formula.base]),
            _array("double", "weights", [_number(value) for row in formula.weights for value in row]),
            _array("double", "step_fill", [_number(v) for each in steps for v in each.fill or [math.nan] * len(blank)]),
            _array("double", "step_shift", [_number(value) for each in steps for value in each.shift or blank]),
            _array("double", "step_scale", [_number(v) for each in steps for v in each.scale or [1.0] * len(blank)]),
            _array("int", "level_column", [str(column) for column, _, _ in texts]),
            _array("double", "level_code", [str(code) for _, code, _ in texts]),
            _array("char *const", "levels", [_text(level) for _, _, level in texts]),
            _array("char *const", "model_classes", [_text(name) for name in names], scope=""),
        )
    )


def _array(kind: str, name: str, values: Sequence[str], scope: str = "static ") -> str:
    kept = values or ["{0, 0}" if kind == "struct tree" else "0"]
    lines = [", ".join(kept[place : place + 16]) for place in range(0, len(kept), 16)]
    return f"{scope}const {kind} {name}[] = {{\n    {(',' + chr(10) + '    ').join(lines)}\n}};\n"


def _padded(row: Sequence[float], width: int) -> list[float]:
    return [*row, *[0.0] * (width - len(row))]


def _number(value: float) -> str:
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    return repr(float(value))


def _text(value: str) -> str:
    octal = "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}" for byte in value.encode()
    )
    return f'"{octal}"'


def _comment(text: str) -> str:
    return json.dumps(text)[1:-1].replace("*/", "* /")
