from __future__ import annotations

import sys

from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import node, pipeline
from kedro.runner import SequentialRunner


def first(x: int) -> int:
    return x + 1


def second(x: int) -> int:
    return x * 2


def third(x: int) -> int:
    return x - 3


def fourth(x: int) -> int:
    return x * x


def fifth(x: int) -> int:
    return x % 7


five = pipeline(
    [
        node(first, "x", "a"),
        node(second, "a", "b"),
        node(third, "b", "c"),
        node(fourth, "c", "d"),
        node(fifth, "d", "answer"),
    ]
)

if __name__ == "__main__":
    x = int(sys.argv[2])
    output = SequentialRunner().run(five, DataCatalog({"x": MemoryDataset(x)}))["answer"]
    output = output.load() if hasattr(output, "load") else output
    if output != ((x + 1) * 2 - 3) ** 2 % 7:
        sys.exit(f"wrong answer {output}")
