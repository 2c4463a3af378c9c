"""Source of loaded code: its syntax tree without what does not change its behaviour, and the names it reaches."""

from __future__ import annotations

import ast
import dis
import hashlib
import linecache
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import CodeType

Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module
Chain = tuple[str, ...]  # a name and the attributes after it: ("helpers", "clean")

_IGNORED = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
_READS_GLOBAL = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"})


@dataclass(frozen=True, slots=True)
class Source:
    """One parsed file."""

    tree: ast.Module  # the whole file
    nodes: dict[tuple[int, str], Node]  # functions by first line (with decorators) and name
    codes: dict[str, list[CodeType]]  # what the file compiles to, by qualified name

    def node_of(self, code: CodeType) -> Node | None:
        """Return the syntax tree that loaded code was compiled from; None when the file says something else by now."""
        wanted = code_bytes(code)
        for candidate in self.codes.get(code.co_qualname, ()):
            if code_bytes(candidate) == wanted:
                return self.nodes.get((candidate.co_firstlineno, candidate.co_name))
        return None

    def assigned(self, name: str) -> ast.stmt | None:
        """Return the last top-level statement that assigns a name."""
        for statement in reversed(self.tree.body):
            targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                return statement
        return None


def source_of(file: str) -> Source | None:
    """Parse a file, or a notebook cell that the interpreter remembers; None when there is no source."""
    try:
        text = Path(file).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        text = "".join(linecache.getlines(file))
    return _parsed(file, text) if text else None


@lru_cache(maxsize=512)
def _parsed(file: str, text: str) -> Source | None:
    try:
        tree = ast.parse(text)
        # Flags of this file must not leak in: the code has to equal what the import system made.
        whole = compile(text, file, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    nodes: dict[tuple[int, str], Node] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            nodes[first, node.name] = node
    codes: dict[str, list[CodeType]] = {}
    for code in _codes(whole):
        codes.setdefault(code.co_qualname, []).append(code)
    return Source(tree, nodes, codes)


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def code_bytes(code: CodeType) -> bytes:
    """Digest compiled code without its line numbers."""
    whole = hashlib.blake2b(code.co_code, digest_size=16)
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_flags)
    whole.update(repr((names, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)).encode())
    for constant in code.co_consts:
        whole.update(code_bytes(constant) if isinstance(constant, CodeType) else _constant(constant).encode())
    return whole.digest()


def _constant(value: object) -> str:
    if isinstance(value, frozenset):  # the order of a set of strings differs between processes
        return f"frozenset({sorted(map(_constant, value))})"
    return f"{type(value).__name__}:{value!r};"


def tree_digest(node: ast.AST) -> str:
    """Digest a syntax tree without docstrings, comments, layout, and the decorators of `node` itself."""
    parts: list[str] = []
    _render(node, parts, root=True)
    return hashlib.blake2b("\x00".join(parts).encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()


def _render(item: object, parts: list[str], *, root: bool = False) -> None:
    if isinstance(item, ast.AST):
        parts.append(f"<{type(item).__name__}")
        for name, value in ast.iter_fields(item):
            if name in _IGNORED or (root and name == "decorator_list"):
                continue
            _render(_without_docstring(item) if name == "body" else value, parts)
        parts.append(">")
    elif isinstance(item, list):
        parts.append(f"[{len(item)}")
        for inner in item:
            _render(inner, parts)
    else:
        parts.append(_constant(item))


def _without_docstring(node: ast.AST) -> object:
    body = getattr(node, "body", None)
    if not isinstance(node, Node) or not isinstance(body, list) or not body:
        return body
    first = body[0]
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and type(first.value.value) is str
    return body[1:] if is_text else body


def chains(node: ast.AST) -> set[Chain]:
    """Return every name in a tree with the attributes that follow it; the decorators of `node` itself are left out."""
    found: set[Chain] = set()
    waiting: list[ast.AST] = list(_children(node))
    while waiting:
        item = waiting.pop()
        chain = _chain(item)
        if chain:
            found.add(chain)
        else:
            waiting.extend(ast.iter_child_nodes(item))
    return found


def _children(node: ast.AST) -> Iterator[ast.AST]:
    decorators = {id(decorator) for decorator in getattr(node, "decorator_list", ())}
    return (child for child in ast.iter_child_nodes(node) if id(child) not in decorators)


def _chain(node: ast.AST) -> Chain | None:
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return (node.id, *reversed(attributes)) if isinstance(node, ast.Name) else None


def imports(node: ast.AST) -> set[tuple[str, int, str]]:
    """Return the imports inside a tree as (module, level of dots, name or "")."""
    found: set[tuple[str, int, str]] = set()
    for item in ast.walk(node):
        if isinstance(item, ast.Import):
            found |= {(alias.name, 0, "") for alias in item.names}
        elif isinstance(item, ast.ImportFrom):
            found |= {(item.module or "", item.level, alias.name) for alias in item.names}
    return found


def global_names(code: CodeType) -> set[str]:
    """Return the global names that compiled code reads, nested functions included; locals of the same name do not."""
    return {
        str(instruction.argval)
        for inner in _codes(code)
        for instruction in dis.get_instructions(inner)
        if instruction.opname in _READS_GLOBAL
    }


def annotated_names(node: ast.AST) -> set[str]:
    """Return the names in the annotations and defaults of a function, which its own code does not read."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return set()
    outside = [node.args, *([node.returns] if node.returns else [])]
    return {item.id for part in outside for item in ast.walk(part) if isinstance(item, ast.Name)}
