"""Small models as PMML 4.4, for the scoring engines of others (Java, databases, mainframes)."""

from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np

from tidewheel.errors import UnsupportedFormat
from tidewheel.models.bundle import Bundle
from tidewheel.models.estimator import class_path
from tidewheel.models.formulas import Formula, Tree
from tidewheel.models.signature import Signature
from tidewheel.models.sources import formula_for

_NORMALISATION = {"identity": "none", "exp": "exp", "sigmoid": "logit", "softmax": "softmax", "shares": "none"}


def export_pmml(model: Any) -> str:
    """Return a linear model, tree, forest or boosting (a Model or a Bundle) as PMML with probabilities as outputs.

    Raises UnsupportedFormat for what is no formula (see `export_python`), and for models without probabilities.
    """
    estimator, signature, formula = formula_for(model)
    if formula.link not in _NORMALISATION or formula.zero_is_missing:
        raise UnsupportedFormat(
            f"PMML holds no {class_path(estimator)} with the link {formula.link}.", "Ship it as ONNX, Python or C."
        )
    if isinstance(model, Bundle):
        signature = model.manifest.signature
    return _Writer(formula, signature).document(class_path(estimator))


class _Writer:
    """Builds the document; fields are called as in the signature."""

    def __init__(self, formula: Formula, signature: Signature) -> None:
        self._formula = formula
        self._signature = signature
        self._target = signature.target or "target"
        self._names = list(signature.names)  # of what the model sees, after the steps

    def document(self, title: str) -> str:
        """Return the whole file."""
        root = ET.Element("PMML", {"xmlns": "http://www.dmg.org/PMML-4_4", "version": "4.4"})
        ET.SubElement(root, "Header", {"description": title})
        self._dictionary(root)
        self._transformations(root)
        if not self._formula.trees:
            self._regression(root, [])
        else:
            self._chain(root)
        ET.indent(root, " ")
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"

    def _dictionary(self, root: ET.Element) -> None:
        dictionary = ET.SubElement(root, "DataDictionary")
        for place, field in enumerate(self._signature.fields):
            levels = self._formula.levels.get(place)
            numeric = "float" if self._formula.single and not self._formula.steps else "double"
            kind = ("categorical", "string") if levels is not None else ("continuous", numeric)
            ET.SubElement(dictionary, "DataField", {"name": field.name, "optype": kind[0], "dataType": kind[1]})
        classes = self._signature.classes
        kind = ("continuous", "double") if classes is None else ("categorical", "string")
        target = ET.SubElement(dictionary, "DataField", {"name": self._target, "optype": kind[0], "dataType": kind[1]})
        for label in classes or ():
            ET.SubElement(target, "Value", {"value": str(label)})

    def _transformations(self, root: ET.Element) -> None:
        if not self._formula.steps:
            return
        place = ET.SubElement(root, "TransformationDictionary")
        for number, step in enumerate(self._formula.steps):
            last = number == len(self._formula.steps) - 1
            for column, name in enumerate(self._names):
                made = f"step{number}({self._signature.names[column]})"
                kind = "float" if self._formula.single and last else "double"
                derived = ET.SubElement(place, "DerivedField", {"name": made, "optype": "continuous", "dataType": kind})
                missing = {} if step.fill is None else {"mapMissingTo": _number(step.fill[column])}
                divided = ET.SubElement(derived, "Apply", {"function": "/"} | missing) if step.scale else derived
                minus = ET.SubElement(divided, "Apply", {"function": "-"} | missing)
                ET.SubElement(minus, "FieldRef", {"field": name})
                ET.SubElement(minus, "Constant").text = _number(step.shift[column] if step.shift else 0.0)
                if step.scale:
                    ET.SubElement(divided, "Constant").text = _number(step.scale[column])
                self._names[column] = made

    def _chain(self, root: ET.Element) -> None:
        classes = self._signature.classes
        function = "regression" if classes is None else "classification"
        chain = ET.SubElement(root, "MiningModel", {"functionName": function})
        self._schema(chain, target=True)
        segments = ET.SubElement(chain, "Segmentation", {"multipleModelMethod": "modelChain"})
        sums = [f"raw{output}" for output in range(self._formula.outputs)]
        for output, name in enumerate(sums):
            segment = ET.SubElement(segments, "Segment", {"id": str(output)})
            ET.SubElement(segment, "True")
            self._sum(segment, output, name)
        segment = ET.SubElement(segments, "Segment", {"id": "answer"})
        ET.SubElement(segment, "True")
        self._regression(segment, sums)

    def _sum(self, parent: ET.Element, output: int, name: str) -> None:
        model = ET.SubElement(parent, "MiningModel", {"functionName": "regression"})
        self._schema(model, target=False)
        outputs = ET.SubElement(model, "Output")
        ET.SubElement(
            outputs,
            "OutputField",
            {"name": name, "optype": "continuous", "dataType": "double", "isFinalResult": "false"},
        )
        segments = ET.SubElement(model, "Segmentation", {"multipleModelMethod": "sum"})
        for number, (first, tree) in enumerate(self._formula.trees):
            place = output - first
            if 0 <= place < max(len(row) for row in tree.value):
                segment = ET.SubElement(segments, "Segment", {"id": str(number)})
                ET.SubElement(segment, "True")
                attributes = {
                    "functionName": "regression",
                    "missingValueStrategy": "defaultChild",
                    "splitCharacteristic": "binarySplit",
                }
                made = ET.SubElement(segment, "TreeModel", attributes)
                self._schema(made, target=False)
                self._node(made, tree, 0, place)

    def _node(self, parent: ET.Element, tree: Tree, node: int, place: int) -> None:
        """Write a node and those below it; what leads to it stands in it, so the parent's comparison comes first."""
        waiting: list[tuple[ET.Element, int, ET.Element]] = [(parent, node, ET.Element("True"))]
        while waiting:
            above, number, predicate = waiting.pop()
            element = ET.SubElement(above, "Node", {"id": str(number)})
            element.append(predicate)
            left, right = tree.left[number], tree.right[number]
            if left < 0:
                element.set("score", _number(tree.value[number][place] * self._formula.scale))
                continue
            element.set("defaultChild", str(left if tree.missing_left[number] else right))
            waiting.append((element, right, self._comparison(tree, number, left=False)))
            waiting.append((element, left, self._comparison(tree, number, left=True)))

    def _comparison(self, tree: Tree, node: int, *, left: bool) -> ET.Element:
        name = self._names[tree.feature[node]]
        if node in tree.sets:
            levels = self._formula.levels[tree.feature[node]]
            made = ET.Element("SimpleSetPredicate", {"field": name, "booleanOperator": "isIn" if left else "isNotIn"})
            words = " ".join('"' + levels[code].replace('"', '\\"') + '"' for code in tree.sets[node])
            ET.SubElement(made, "Array", {"type": "string"}).text = words
            return made
        if self._formula.strict:
            operator = "lessThan" if left else "greaterOrEqual"
        else:
            operator = "lessOrEqual" if left else "greaterThan"
        threshold = tree.threshold[node]
        # An evaluator reads the threshold as the field's type: the next float32 below decides like the double.
        if self._formula.single and not self._formula.strict:
            threshold = _float_below(threshold)
        return ET.Element("SimplePredicate", {"field": name, "operator": operator, "value": _number(threshold)})

    def _regression(self, parent: ET.Element, sums: list[str]) -> None:
        formula, classes = self._formula, self._signature.classes
        attributes = {
            "functionName": "regression" if classes is None else "classification",
            "normalizationMethod": _NORMALISATION[formula.link],
        }
        model = ET.SubElement(parent, "RegressionModel", attributes)
        self._schema(model, target=True, sums=sums)
        self._outputs(model)
        labels = [""] if classes is None else [str(label) for label in classes]
        if len(labels) == 2 and formula.outputs == 1:
            self._table(model, labels[1], sums, 0)
            ET.SubElement(model, "RegressionTable", {"intercept": "0.0", "targetCategory": labels[0]})
            return
        for output, label in enumerate(labels):
            self._table(model, label, sums, output)

    def _table(self, model: ET.Element, label: str, sums: list[str], output: int) -> None:
        formula = self._formula
        category = {"targetCategory": label} if label else {}
        table = ET.SubElement(
            model, "RegressionTable", {"intercept": _number(formula.slope * formula.base[output])} | category
        )
        if sums:
            ET.SubElement(table, "NumericPredictor", {"name": sums[output], "coefficient": _number(formula.slope)})
        for name, weight in zip(self._names, formula.weights[output] if formula.weights else (), strict=False):
            ET.SubElement(table, "NumericPredictor", {"name": name, "coefficient": _number(weight)})

    def _outputs(self, model: ET.Element) -> None:
        classes = self._signature.classes
        if classes is None:
            return
        outputs = ET.SubElement(model, "Output")
        for label in classes:
            attributes = {"optype": "continuous", "dataType": "double", "feature": "probability", "value": str(label)}
            ET.SubElement(outputs, "OutputField", {"name": f"probability({label})"} | attributes)

    def _schema(self, model: ET.Element, *, target: bool, sums: list[str] | None = None) -> None:
        schema = ET.SubElement(model, "MiningSchema")
        if target:
            ET.SubElement(schema, "MiningField", {"name": self._target, "usageType": "target"})
        for field in self._signature.fields if not sums else ():
            ET.SubElement(schema, "MiningField", {"name": field.name, "invalidValueTreatment": "asIs"})
        for name in sums or ():
            ET.SubElement(schema, "MiningField", {"name": name})


def _number(value: float) -> str:
    if math.isinf(value):
        return "INF" if value > 0 else "-INF"
    return repr(float(value))


def _float_below(value: float) -> float:
    single = np.float32(value)
    return float(np.nextafter(single, np.float32(-np.inf)) if float(single) > value else single)
