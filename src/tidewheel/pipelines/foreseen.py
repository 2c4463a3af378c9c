"""The steps that the body of a pipeline calls whatever happens: what they need is looked for before a run begins."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from tidewheel.pipelines.pipeline import Pipeline
from tidewheel.pipelines.secrets import find_secrets
from tidewheel.pipelines.step import Step

# What is inside of these may not be executed, or not in this body.
_PERHAPS = (ast.If, ast.For, ast.While, ast.Try, ast.Match, ast.IfExp, ast.BoolOp, ast.Lambda, ast.FunctionDef)
_LOOPS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def check_secrets(pipeline: Pipeline[..., Any], folder: Path | None) -> None:
    """Look for the secrets of every step that the body calls whatever happens.

    Raises NotFound, which names the step, for one that is not there.
    """
    if not _may_need(pipeline.__wrapped__):
        return
    for step in foreseen_steps(pipeline.__wrapped__):
        find_secrets(step.options.secrets, folder, wanted_by=f"The step {step.name}")


def foreseen_steps(function: Callable[..., Any]) -> list[Step[..., Any]]:
    """Return the steps that a body and the pipelines it calls call outside of conditions, loops and inner functions.

    A step whose call stands after a `return` under a condition is foreseen too. [] where the source cannot be read.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return []
    found: list[Step[..., Any]] = []
    for node in _certain(list(ast.iter_child_nodes(tree.body[0]))):
        called = _meaning(function, node.func) if isinstance(node, ast.Call) else None
        if isinstance(called, Step):
            found.append(called)
        elif isinstance(called, Pipeline):
            found += foreseen_steps(called.__wrapped__)
    return found


def _may_need(function: Callable[..., Any]) -> bool:
    """Say whether a body names a step with secrets, or something inside which one may be; most do not."""
    named = [_named(function, name) for name in (*function.__code__.co_names, *function.__code__.co_freevars)]
    return any(
        (isinstance(item, Step) and item.options.secrets) or isinstance(item, Pipeline | ModuleType) for item in named
    )


def _certain(nodes: list[ast.AST]) -> Iterator[ast.AST]:
    for node in nodes:
        if isinstance(node, _PERHAPS + _LOOPS):
            continue
        yield node
        yield from _certain(list(ast.iter_child_nodes(node)))


def _meaning(function: Callable[..., Any], node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return _named(function, node.id)
    if isinstance(node, ast.Attribute):
        owner = _meaning(function, node.value)
        return getattr(owner, node.attr, None) if isinstance(owner, ModuleType) else None
    return None


def _named(function: Callable[..., Any], name: str) -> Any:
    if name in function.__code__.co_freevars:
        return inspect.getclosurevars(function).nonlocals.get(name)
    return function.__globals__.get(name)
