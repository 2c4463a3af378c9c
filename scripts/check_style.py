"""Check the limits of the house style that ruff, mypy and import-linter do not check.

Run as `python scripts/check_style.py [root]`; prints one line per finding and exits with 1 if any of them is an error.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILE_LINES_RULE = 400
FILE_LINES_LIMIT = 600
BODY_LINES = 50
NESTING = 3
CLASS_LINES = 250
PUBLIC_METHODS = 12
POSITIONAL = 5
DRAWER_NAMES = re.compile(r"^_*(util|utils|helper|helpers|common|misc|base|core|manager|managers|service|services)$")
# Words that ask for later work, assembled so that this file does not find itself.
LATER = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX")) + r")\b")
# Folders of one person's machine, and hosts that hand out packages: neither belongs in a committed file.
MACHINE_PATH = re.compile(r"(?<![\w.$}~-])/(work|root|home|Users)/[A-Za-z0-9_.]+")
REGISTRY = re.compile(
    r"(https?://[^\s\"'<>)]*(pypi|pythonhosted|npmjs|artifactory|nexus|registry|mirror)[^\s\"'<>)]*)", re.IGNORECASE
)
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith, ast.Try, ast.TryStar, ast.Match)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
VENDORED = "vendor"

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One place that breaks a limit."""

    path: str  # relative to the root
    line: int  # counted from 1
    text: str  # what is wrong, with the figures
    error: bool = True  # False: a warning that does not fail the check

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {'error' if self.error else 'warning'}: {self.text}"


def check_source(path: str, source: str) -> list[Finding]:
    """Return what breaks a limit in one Python file; `path` is relative to the root of the project."""
    tree = ast.parse(source, filename=path)
    found = [*_file_size(path, source), *_comments(path, source)]
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            found += _function(path, node)
        elif isinstance(node, ast.ClassDef):
            found += _class(path, node)
        elif isinstance(node, ast.Assert) and path.startswith("src/"):
            found.append(
                Finding(path=path, line=node.lineno, text="assert in src; raise an error that says how to mend it")
            )
        elif path.startswith("src/") and isinstance(node, ast.ImportFrom) and _from_the_face(node):
            found.append(
                Finding(path=path, line=node.lineno, text="imports from the face; import from the defining file")
            )
    return found


def _from_the_face(node: ast.ImportFrom) -> bool:
    """Say whether an import takes a name from the face; a room is no name of it."""
    return node.module == "tidewheel" and not all(Path("src/tidewheel", each.name).is_dir() for each in node.names)


def check_text(path: str, text: str) -> list[Finding]:
    """Return machine paths and registry hosts that a committed file of any kind names."""
    found = []
    for number, line in enumerate(text.splitlines(), start=1):
        found += [
            Finding(path=path, line=number, text=f"names a folder of one machine: {match.group()}")
            for match in MACHINE_PATH.finditer(line)
        ]
        found += [
            Finding(path=path, line=number, text=f"names a package registry: {match.group()}")
            for match in REGISTRY.finditer(line)
        ]
    return found


def check_name(path: str) -> list[Finding]:
    """Return a finding when a file or folder is named like a drawer for everything."""
    parts = [*Path(path).parts[:-1], Path(path).stem]
    return [
        Finding(path=path, line=1, text=f"{part!r} names no subject; name the file after what it holds")
        for part in parts
        if DRAWER_NAMES.match(part)
    ]


def _file_size(path: str, source: str) -> Iterator[Finding]:
    lines = len(source.splitlines())
    if lines > FILE_LINES_RULE:
        over = lines > FILE_LINES_LIMIT
        limit = FILE_LINES_LIMIT if over else FILE_LINES_RULE
        yield Finding(path=path, line=1, text=f"file has {lines} lines, {limit} are allowed", error=over)


def _comments(path: str, source: str) -> Iterator[Finding]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and LATER.search(token.string):
            yield Finding(path=path, line=token.start[0], text="a comment asks for later work; do it or open an issue")


def _function(path: str, node: Function) -> Iterator[Finding]:
    lines = _body_lines(node)
    if lines > BODY_LINES:
        yield Finding(path=path, line=node.lineno, text=f"{node.name}() has {lines} lines, {BODY_LINES} are allowed")
    depth = _nesting(node.body)
    if depth > NESTING:
        yield Finding(path=path, line=node.lineno, text=f"{node.name}() nests {depth} deep, {NESTING} are allowed")
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    count = len(names) - (names[:1] in (["self"], ["cls"]))
    if count > POSITIONAL and not path.startswith("tests/"):  # pytest passes fixtures and cases by name
        text = f"{node.name}() takes {count} positional arguments, {POSITIONAL} are allowed; make the rest keyword-only"
        yield Finding(path=path, line=node.lineno, text=text)


def _body_lines(node: Function) -> int:
    """Return the lines of a function's body without its docstring."""
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def _nesting(body: list[ast.stmt]) -> int:
    """Return how deep blocks stand in blocks; an `elif` is as deep as its `if`, a nested function counts for itself."""
    deepest = 0
    for statement in body:
        if isinstance(statement, BLOCKS):
            deepest = max(deepest, 1 + max((_nesting(inner) for inner in _inner_bodies(statement)), default=0))
            if isinstance(statement, ast.If) and _is_elif(statement.orelse):
                deepest = max(deepest, _nesting(statement.orelse))
    return deepest


def _inner_bodies(statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    yield getattr(statement, "body", [])
    for handler in getattr(statement, "handlers", []):
        yield handler.body
    for case in getattr(statement, "cases", []):
        yield case.body
    yield getattr(statement, "finalbody", [])
    orelse = getattr(statement, "orelse", [])
    if not (isinstance(statement, ast.If) and _is_elif(orelse)):
        yield orelse


def _is_elif(orelse: list[ast.stmt]) -> bool:
    return len(orelse) == 1 and isinstance(orelse[0], ast.If)


def _class(path: str, node: ast.ClassDef) -> Iterator[Finding]:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if lines > CLASS_LINES:
        yield Finding(
            path=path, line=node.lineno, text=f"class {node.name} has {lines} lines, {CLASS_LINES} are allowed"
        )
    public = {item.name for item in node.body if isinstance(item, FUNCTIONS) and not item.name.startswith("_")}
    if len(public) > PUBLIC_METHODS:
        text = f"class {node.name} has {len(public)} public methods, {PUBLIC_METHODS} are allowed"
        yield Finding(path=path, line=node.lineno, text=text)


def _committed(root: Path) -> list[str]:
    """Return the files that git holds or would add, as paths from the root."""
    command = ["git", "-C", str(root), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split("\0")
    return sorted(name for name in set(listed) if name and (root / name).is_file())


def check_tree(root: Path) -> list[Finding]:
    """Return every finding in the files of a project that git holds."""
    found: list[Finding] = []
    for path in _committed(root):
        try:
            text = (root / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # pictures and stored data carry no style
        if VENDORED in Path(path).parts:
            continue
        found += check_name(path) if path.endswith(".py") else []
        found += check_source(path, text) if path.endswith(".py") else []
        found += check_text(path, text)
    return found


def main(arguments: list[str]) -> int:
    """Print the findings of the tree and return the exit code."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    found = check_tree(root)
    for finding in found:
        print(finding)
    errors = sum(finding.error for finding in found)
    print(f"style: {errors} errors, {len(found) - errors} warnings")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
