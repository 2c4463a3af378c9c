"""The digest of a function with all project code it reaches: its transitive code closure.

Own source without docstring, decorators and comments; every project function, class and module constant
that it names, however many modules away; installed packages as `name==version`; Python by its minor version.
Names that only exist at run time (getattr with a computed name, plugins, eval) cannot be seen.
"""

from __future__ import annotations

import ast
import enum
import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from tidewheel.errors import InvalidInput, Unhashable
from tidewheel.fingerprint import source
from tidewheel.fingerprint.canonical import Encoder, combine
from tidewheel.fingerprint.place import Place, installed, module_label, module_place, place_of, requirements

# Attributes that Python, dataclasses, enums and msgspec derive from the rest of a class.
_DERIVED = frozenset(
    {
        "__dict__",
        "__weakref__",
        "__doc__",
        "__module__",
        "__qualname__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__parameters__",
        "__orig_bases__",
        "__abstractmethods__",
        "_abc_impl",
        "__firstlineno__",
        "__static_attributes__",
        "__annotate__",
        "__annotate_func__",
        "__annotations_cache__",
        "__struct_config__",
        "__signature__",
        "__hash__",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeDigest:
    """A code closure and what it is made of."""

    digest: str  # hexadecimal digest of all parts
    parts: Mapping[str, str]  # "bikes.fit" to digest of its source, "polars" to "polars==1.20", "python" to "3.11"


def code_digest(function: Callable[..., Any]) -> CodeDigest:
    """Digest a function with everything it reaches.

    >>> def double(x):
    ...     return 2 * x
    >>> code_digest(double).parts["python"] == "{}.{}".format(*sys.version_info)
    True

    Raises InvalidInput for something that is neither a function nor a class.
    """
    closure = _Closure()
    found = closure.visit(function)
    if not found:
        raise InvalidInput(
            f"{function!r} has no Python code to digest.", "Wrap it in a function of your own: def f(x): return g(x)."
        )
    parts = dict(sorted(closure.parts.items()))
    whole = combine("closure", [text.encode() for pair in parts.items() for text in pair])
    return CodeDigest(digest=whole.hex(), parts=parts)


def module_parts(module: ModuleType) -> dict[str, str]:
    """Return what a module and all that it reaches is made of, without Python itself: for code that is named by hand.

    >>> import json
    >>> module_parts(json)
    {}
    """
    closure = _Closure()
    closure.visit(module)
    return {name: text for name, text in sorted(closure.parts.items()) if name != "python"}


class _Closure:
    """One walk over everything a function reaches; `parts` is what it has found."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {"python": "{}.{}".format(*sys.version_info)}
        self._labels: dict[int, str] = {}
        self._kept: list[object] = []  # what was visited stays alive, so that an id means one object

    def visit(self, item: Any) -> str:
        """Add a function, class or module and what it reaches; return its label, "" for what is not code."""
        if id(item) in self._labels:
            return self._labels[id(item)]
        if isinstance(item, staticmethod | classmethod):
            return self.visit(item.__func__)
        if isinstance(item, MethodType):
            label = self.visit(item.__func__)
            self._constant(f"{label}(self)", item.__self__, None)
            return label
        if isinstance(item, FunctionType):
            return self._visit_function(item)
        if isinstance(item, type):
            return self._visit_class(item)
        if isinstance(item, ModuleType):
            return self._visit_module(item)
        inner = getattr(item, "__wrapped__", None) if callable(item) else None
        if inner is None:
            return ""
        self.visit(type(item))  # a step, a cached function, a decorator written as a class
        return self.visit(inner)

    def _visit_function(self, function: FunctionType) -> str:
        code = function.__code__
        home = str(function.__globals__.get("__name__", "__main__"))  # wraps() copies __module__, not the globals
        label = self._enter(function, f"{module_label(function.__module__ or home)}.{function.__qualname__}")
        cells = _cells(function)
        if self._foreign(place_of(home, _file_of(code, home))):
            for held in (*cells.values(), getattr(function, "__wrapped__", None)):
                self.visit(held)  # an installed decorator around a function of the project
            return label
        parsed = source.source_of(code.co_filename)
        node = parsed.node_of(code) if parsed else None
        if node is None:  # no source, or edited since it was loaded: what runs is what counts
            self.parts[label] = "code:" + source.code_bytes(code).hex()
            found: set[source.Chain] = {(name,) for name in source.global_names(code) | cells.keys()}
        else:
            self.parts[label] = source.tree_digest(node)
            reached = source.global_names(code) | source.annotated_names(node) | cells.keys()
            found = {chain for chain in source.chains(node) if chain[0] in reached}
            self._visit_imports(node, function.__globals__)
        self._visit_defaults(label, function)
        self._visit_names(label, found, cells, function.__globals__)
        return label

    def _visit_defaults(self, label: str, function: FunctionType) -> None:
        held = (function.__defaults__, function.__kwdefaults__)
        if any(held):
            self._constant(f"{label}(defaults)", held, None)

    def _visit_class(self, kind: type) -> str:
        place = module_place(kind.__module__)
        label = self._enter(kind, f"{module_label(kind.__module__)}.{kind.__qualname__}")
        if self._foreign(place):
            return label
        attributes: list[bytes] = []
        for name, value in sorted(vars(kind).items()):
            if name not in _DERIVED and not (issubclass(kind, enum.Enum) and name.startswith("_")):
                attributes.append(name.encode() + b"=" + self._attribute(kind, value))
        attributes += [self.visit(base).encode() for base in (*kind.__bases__, type(kind))]
        self.parts[label] = combine("class", attributes).hex()
        return label

    def _attribute(self, kind: type, value: Any) -> bytes:
        if isinstance(value, enum.Enum) and isinstance(value, kind):
            value = value.value
        if isinstance(value, property):
            return b",".join(self._attribute(kind, part) for part in (value.fget, value.fset, value.fdel))
        code = self.visit(value)
        if code:
            return code.encode()
        try:
            return Encoder(self._code_of).digest(value)
        except Unhashable:
            return type(value).__qualname__.encode()  # a descriptor or the like: its class is all there is to say

    def _visit_module(self, module: ModuleType) -> str:
        place = module_place(module.__name__)
        label = self._enter(module, module_label(module.__name__))
        if self._foreign(place):
            return label
        file = module.__file__ or ""
        parsed = source.source_of(file)
        if parsed is None:
            self.parts[label] = "file:" + file
            return label
        self.parts[label] = source.tree_digest(parsed.tree)
        self._visit_imports(parsed.tree, vars(module))
        self._visit_names(label, source.chains(parsed.tree), {}, vars(module))
        return label

    def _visit_names(
        self, label: str, names: set[source.Chain], cells: Mapping[str, Any], known: Mapping[str, Any]
    ) -> None:
        owner = str(known.get("__name__", "__main__"))
        for name, *attributes in sorted(names):
            if name in cells:
                self._visit_value(f"{label}[{name}]", cells[name], attributes, None)
            elif name in known:
                self._visit_value(f"{module_label(owner)}.{name}", known[name], attributes, owner)

    def _visit_value(self, label: str, value: Any, attributes: list[str], owner: str | None) -> None:
        """Follow `helpers.clean` through modules to what it means, and add that."""
        while isinstance(value, ModuleType) and attributes and module_place(value.__name__).kind == "project":
            inner = getattr(value, attributes[0], None)
            if inner is None:
                break
            owner, label = value.__name__, f"{module_label(value.__name__)}.{attributes[0]}"
            value, attributes = inner, attributes[1:]
        if not self.visit(value):
            self._constant(label, value, owner)

    def _visit_imports(self, node: ast.AST, known: Mapping[str, Any]) -> None:
        """Add what is imported inside a function; a project module is imported for it, an installed one is not."""
        for module, level, name in sorted(source.imports(node)):
            full = (
                importlib.util.resolve_name("." * level + module, known.get("__package__") or "") if level else module
            )
            place = self._import_place(full)
            if self._foreign(place):
                continue
            try:
                loaded = importlib.import_module(full)
            except ImportError:
                self.parts[full] = "not importable"
                continue
            self._visit_value(full, loaded, [name] if name and name != "*" else [], full)

    def _import_place(self, module: str) -> Place:
        if module in sys.modules:
            return module_place(module)
        top = module.partition(".")[0]
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            spec = None
        origin = spec.origin if spec else ""
        return place_of(top, None if origin in ("built-in", "frozen") else origin)

    def _constant(self, label: str, value: Any, owner: str | None) -> None:
        home = getattr(value, "__module__", None)
        if isinstance(home, str) and home in sys.modules:
            self._foreign(module_place(home))  # a compiled function counts by the version of its package
        try:
            self.parts[label] = Encoder(self._code_of).digest(value).hex()
        except Unhashable:
            self.parts[label] = self._assignment(label, owner) or f"a {type(value).__qualname__}"

    def _assignment(self, label: str, owner: str | None) -> str | None:
        """Digest the statement that made a value which has no digest itself, such as a lock or a connection."""
        file = getattr(sys.modules.get(owner or ""), "__file__", None)
        parsed = source.source_of(file) if file else None
        statement = parsed.assigned(label.rpartition(".")[2]) if parsed else None
        return "assigned:" + source.tree_digest(statement) if statement else None

    def _code_of(self, item: Any) -> str:
        """Digest code met inside a constant by its label; its content is a part of its own."""
        return self.visit(item) or repr(type(item))

    def _enter(self, item: object, label: str) -> str:
        taken = {known for known in self._labels.values() if known.partition("#")[0] == label}
        label = f"{label}#{len(taken) + 1}" if taken else label
        self._labels[id(item)] = label
        self._kept.append(item)
        return label

    def _foreign(self, place: Place) -> bool:
        if place.kind == "distribution":
            name = place.label.partition("==")[0]
            if name not in self.parts:
                self.parts[name] = place.label
                self._needed_by(name)
        return place.kind != "project"

    def _needed_by(self, name: str) -> None:
        """Add what an installed distribution computes with; what this platform itself needs is not part of a step."""
        if name != "tidewheel":
            versions = installed()
            self.parts |= {needed: f"{needed}=={versions[needed]}" for needed in requirements(name)}


def _cells(function: FunctionType) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue  # not assigned yet: a function that refers to itself while it is being defined
    return found


def _file_of(code: CodeType, module: str | None) -> str | None:
    """Return the file of a function; generated code ("<string>") belongs where its module is."""
    if code.co_filename.startswith("<"):
        return getattr(sys.modules.get(module or ""), "__file__", None) or code.co_filename
    return code.co_filename
