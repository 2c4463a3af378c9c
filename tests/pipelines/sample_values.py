"""Steps about values that wait and about secrets; tests load this file by its path, child processes too."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import polars as pl

from tidewheel.pipelines.inputs import latest
from tidewheel.pipelines.pipeline import pipeline
from tidewheel.pipelines.secrets import secret
from tidewheel.pipelines.step import step


@dataclass(frozen=True)
class Split:
    train: pl.DataFrame
    test: pl.DataFrame
    seed: int = 0

    @property
    def height(self) -> int:
        return self.train.height + self.test.height


@dataclass(frozen=True)
class Named(Split):
    name: str = "named"


class Pair(NamedTuple):
    low: float
    high: float


class Report(TypedDict):
    rows: pl.DataFrame
    count: int


@dataclass
class Wanted:
    """Made in the body, out of handles."""

    rows: pl.DataFrame
    factor: float = 1.0


@step
def split(rows: pl.DataFrame, head: int = 2) -> Split:
    return Split(rows.head(head), rows.slice(head), seed=7)


@step
def named(rows: pl.DataFrame) -> Split:
    return Named(rows, rows, name="bikes")


@step
def ends(rows: pl.DataFrame) -> Pair:
    return Pair(float(rows["a"].min()), float(rows["a"].max()))  # type: ignore[arg-type]


@step
def report(rows: pl.DataFrame) -> Report:
    return {"rows": rows, "count": rows.height}


@step
def total(rows: pl.DataFrame) -> float:
    return float(rows["a"].sum())


@step
def add(x: float, y: float = 0.0) -> float:
    return x + y


@step
def weighed(wanted: Wanted) -> float:
    return float(wanted.rows["a"].sum()) * wanted.factor


@step
def kind_of(item: Any) -> str:
    return type(item).__name__


@pipeline
def records(rows: pl.DataFrame) -> dict[str, Any]:
    parts = split(rows)
    low, high = ends(parts.train)
    told = report(parts.test)
    return {
        "train": total(parts.train),
        "span": add(high, low),
        "rows": total(told["rows"]),
        "count": told["count"],
        "weighed": weighed(Wanted(parts.test, factor=2.0)),
        "kind": kind_of(named(rows)),
        "whole": parts,
        "height": parts.height,
    }


@pipeline
def inner(rows: pl.DataFrame, factor: float = 1.0) -> float:
    return add(total(rows), factor)


@pipeline
def outer(rows: pl.DataFrame) -> float:
    first = inner(rows)
    return add(first, inner(rows, factor=first))


@pipeline
def inner_picks(rows: pl.DataFrame = latest("tides")) -> float:  # noqa: B008 - how an input is wished for
    return total(rows)


@pipeline
def outer_picks() -> float:
    return inner_picks()


@step
def wrong(x: int) -> int:
    return f"{x}"  # type: ignore[return-value]


@pipeline
def gives_wrong(x: int) -> int:
    return wrong(x)


KEPT: list[Any] = []


@pipeline
def leaks(x: float) -> float:
    found = add(x)
    KEPT.append(found)
    return found


@step
def breaks(x: float) -> float:
    raise ValueError("no luck")


@pipeline
def leaks_and_fails(x: float) -> float:
    KEPT.append(add(breaks(x)))
    raise RuntimeError("the body ends before its steps")


@pipeline
def takes(extra: float = 0.0) -> float:
    return add(KEPT[-1], extra)


@step(secrets=("TIDE_PASSWORD",), variables={"TIDE_MODE": "deep"})
def login(how: str = "print") -> list[str]:
    word = secret("TIDE_PASSWORD")
    sys.stdout.write("out " + word[:5])
    sys.stdout.write(word[5:] + "\n")
    print("err", word, file=sys.stderr)
    if how == "child":
        subprocess.run(["sh", "-c", "echo child $TIDE_PASSWORD"], check=True)
    if how == "raise":
        raise RuntimeError(f"cannot log in with {word}")
    if how == "return":
        return [word]
    return ["same" if os.environ["TIDE_PASSWORD"] == word else "other", os.environ["TIDE_MODE"], str(len(word))]


@step(secrets=("TIDE_PASSWORD",))
def seen() -> list[str]:
    """Return what of this process and its parent a process list tells the secret in."""
    word = secret("TIDE_PASSWORD").encode()
    places = [f"/proc/{process}/{file}" for process in ("self", os.getppid()) for file in ("cmdline", "environ")]
    return [place for place in places if word in Path(place).read_bytes()]


@pipeline
def looks_at_processes() -> list[str]:
    return seen()


@step
def after() -> list[str]:
    return sorted({"TIDE_PASSWORD", "TIDE_MODE"} & os.environ.keys())


@step(secrets=("TIDE_PASSWORD",))
def unnamed() -> str:
    return secret("OTHER")


@pipeline
def logs_in(how: str = "print") -> list[str]:
    return login(how)


@pipeline
def logs_in_and_on() -> list[list[str]]:
    return [login(), after()]


@pipeline
def perhaps(go: bool = False) -> list[str]:
    return login() if go else after()


@pipeline
def asks_for_another() -> str:
    return unnamed()


@pipeline
def asks_in_the_body() -> float:
    return add(float(len(secret("TIDE_PASSWORD"))))
