"""What cannot be seen through while it happens, looked for in the source: `x is None` on a value that waits."""

from __future__ import annotations

import ast
import dis
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from tidewheel.errors import InvalidInput
from tidewheel.pipelines.inputs import champion, latest, window
from tidewheel.pipelines.step import Step

_ASKS = ("IS_OP", "MATCH_")  # names of the instructions that ask what a value is, not what it equals
_PICKS = (champion, latest, window)


@dataclass(frozen=True, slots=True, kw_only=True)
class Blindness:
    """A place in the body of a pipeline where Python looks at the handle and not at its value."""

    line: int  # of the file
    text: str  # what stands there
    name: str  # the name that holds a handle
    step: str  # what gave it
    mend: str  # what to write instead


def check_body(function: Callable[..., Any], name: str) -> None:
    """Refuse a body that asks `is`, `type()` or a `match` pattern about a value that waits.

    Only names that nothing but calls of steps and picked inputs is assigned to are judged: a name that also starts as
    None may be compared with it. A body whose source cannot be read is not checked.

    Raises InvalidInput that names the line and what to write instead.
    """
    for found in blind_spots(function):
        file = Path(function.__code__.co_filename).name
        raise InvalidInput(
            f"`{found.text}` in the pipeline {name} ({file}, line {found.line}) is decided without the value: "
            f"{found.name} comes from {found.step} and is still on its way there.",
            found.mend,
        )


def blind_spots(function: Callable[..., Any]) -> Iterator[Blindness]:
    """Find the places in a function where a handle cannot behave as its value."""
    if not _asks(function.__code__):
        return
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError, IndentationError):
        return
    body = tree.body[0]
    if not isinstance(body, ast.FunctionDef):
        return
    waiting = _waiting(body, _Names(function))
    for node in ast.walk(body):
        for name, text, mend in _asked(node, waiting):
            line = first + getattr(node, "lineno", 1) - 1
            yield Blindness(line=line, text=text, name=name, step=waiting[name].text, mend=mend)


def _asks(code: CodeType) -> bool:
    """Say whether a body could look at a value without touching it; most do not, and are not parsed."""
    if "type" in code.co_names:
        return True
    if any(item.opname.startswith(_ASKS) or "NONE" in item.opname for item in dis.get_instructions(code)):
        return True
    return any(isinstance(inner, CodeType) and _asks(inner) for inner in code.co_consts)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Giver:
    """What gives a handle."""

    text: str  # for the message
    fields: tuple[str, ...] = ()  # of a record, each a handle too
    unpacks: bool = False  # whether its parts are handles
    whole: bool = True  # whether it gives a handle itself, and not a tuple of them


class _Names:
    """What the names in a function mean, as far as that can be said without executing anything."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._globals: Mapping[str, Any] = function.__globals__
        self._locals = {*function.__code__.co_varnames, *function.__code__.co_cellvars}
        self._nonlocals = inspect.getclosurevars(function).nonlocals

    def giver(self, node: ast.expr | None) -> _Giver | None:
        """Return what gives the handle that an expression stands for; None for any other expression."""
        found = self._meaning(node.func) if isinstance(node, ast.Call) else None
        if isinstance(found, Step):
            return _of_step(found)
        return _Giver(text="the store") if found is not None and found in _PICKS else None

    def item_giver(self, node: ast.expr) -> _Giver | None:
        """Return what gives the items of an expression: `fit.map(rows)` or `[fit(row) for row in rows]`."""
        if isinstance(node, ast.ListComp):
            return self.giver(node.elt)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "map":
            found = self._meaning(node.func.value)
            return _of_step(found) if isinstance(found, Step) else None
        return None

    def _meaning(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name) and node.id not in self._locals:
            return self._nonlocals.get(node.id, self._globals.get(node.id))
        if isinstance(node, ast.Attribute):
            owner = self._meaning(node.value)
            return getattr(owner, node.attr, None) if isinstance(owner, ModuleType) else None
        return None


def _of_step(step: Step[..., Any]) -> _Giver:
    shape = step.shape
    several = shape.parts is not None
    return _Giver(
        text=f"the step {step.name}", fields=shape.names, unpacks=several or shape.in_order, whole=not several
    )


def _waiting(body: ast.FunctionDef, names: _Names) -> dict[str, _Giver]:
    """Return the names to which nothing but handles is assigned, with what gives them."""
    given: dict[str, _Giver] = {}
    others = {argument.arg for argument in ast.walk(body.args) if isinstance(argument, ast.arg)}
    for name, giver in (*_from_assignments(body, names), *_from_loops(body, names)):
        if giver is None:
            others.add(name)
        else:
            given[name] = giver
    return {name: giver for name, giver in given.items() if name not in others}


def _from_assignments(body: ast.FunctionDef, names: _Names) -> Iterator[tuple[str, _Giver | None]]:
    for target, source in _targets(body):
        found = names.giver(source)
        for name, waits in _plain_names(target, found):
            if found is None or not waits:
                yield name, None
            else:
                yield name, found if isinstance(target, ast.Name) else _Giver(text=found.text)


def _from_loops(body: ast.FunctionDef, names: _Names) -> Iterator[tuple[str, _Giver | None]]:
    lists: dict[str, _Giver] = {}
    for target, source in _targets(body):
        items = names.item_giver(source) if source is not None else None
        if items is not None and isinstance(target, ast.Name):
            lists[target.id] = items
    for node in ast.walk(body):
        if isinstance(node, ast.For | ast.comprehension) and isinstance(node.target, ast.Name):
            known = lists.get(node.iter.id) if isinstance(node.iter, ast.Name) else names.item_giver(node.iter)
            yield node.target.id, known if known is not None and known.whole else None


def _targets(body: ast.FunctionDef) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    for node in ast.walk(body):
        yield from _assigned(node)


def _assigned(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """Return what an expression or statement assigns to, with the value; loops over one name are looked at later."""
    if isinstance(node, ast.Assign):
        yield from ((target, node.value) for target in node.targets)
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
        if node.value is not None:
            yield node.target, node.value
    elif isinstance(node, ast.AugAssign | ast.For | ast.comprehension):
        if isinstance(node, ast.AugAssign) or not isinstance(node.target, ast.Name):
            yield node.target, None
    elif isinstance(node, ast.withitem) and node.optional_vars is not None:
        yield node.optional_vars, None


def _plain_names(target: ast.expr, giver: _Giver | None) -> Iterator[tuple[str, bool]]:
    """Return the names in a target, and whether each gets a handle when a giver is assigned to the target."""
    if isinstance(target, ast.Name):
        yield target.id, giver is not None and giver.whole
    elif isinstance(target, ast.Tuple | ast.List):
        for inner in target.elts:
            if isinstance(inner, ast.Name):
                yield inner.id, giver is not None and giver.unpacks
            else:
                yield from _plain_names(inner, None)


def _asked(node: ast.AST, waiting: Mapping[str, _Giver]) -> Iterator[tuple[str, str, str]]:
    """Return the names whose handles a node looks at, with its text and what to write instead."""
    if isinstance(node, ast.Compare):
        for side in _compared(node):
            name = _handle(side, waiting)
            if name:
                yield name, ast.unparse(node), f"Write tidewheel.value({ast.unparse(side)}) there: it waits."
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "type":
        name = _handle(node.args[0], waiting) if len(node.args) == 1 else ""
        if name:
            text = ast.unparse(node.args[0])
            yield name, ast.unparse(node), f"Write isinstance({text}, ...) or type(tidewheel.value({text}))."
    elif isinstance(node, ast.Match):
        name = _handle(node.subject, waiting)
        if name and any(_looks(case.pattern) for case in node.cases):
            text = ast.unparse(node.subject)
            yield name, f"match {text}", f"Write match tidewheel.value({text}): it waits."


def _compared(node: ast.Compare) -> Iterator[ast.expr]:
    """Return the two sides of each `is` and `is not`."""
    sides = [node.left, *node.comparators]
    for place, operator in enumerate(node.ops):
        if isinstance(operator, ast.Is | ast.IsNot):
            yield from sides[place : place + 2]


def _handle(node: ast.expr, waiting: Mapping[str, _Giver]) -> str:
    """Return the name whose handle, or the handle of whose field, an expression is; "" for anything else."""
    field, owner = "", node
    if isinstance(node, ast.Attribute):
        field, owner = node.attr, node.value
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        field, owner = str(node.slice.value), node.value
    if not isinstance(owner, ast.Name) or owner.id not in waiting:
        return ""
    return owner.id if not field or field in waiting[owner.id].fields else ""


def _looks(pattern: ast.pattern) -> bool:
    """Say whether a pattern asks for an exact object or a builtin container."""
    blind = (ast.MatchSingleton, ast.MatchSequence, ast.MatchMapping)
    return any(isinstance(inner, blind) for inner in ast.walk(pattern))
