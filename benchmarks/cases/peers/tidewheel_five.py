from __future__ import annotations

import sys

import tidewheel
from tidewheel import pipeline, step


@step
def first(x: int) -> int:
    return x + 1


@step
def second(x: int) -> int:
    return x * 2


@step
def third(x: int) -> int:
    return x - 3


@step
def fourth(x: int) -> int:
    return x * x


@step
def fifth(x: int) -> int:
    return x % 7


@pipeline
def five(x: int) -> int:
    return fifth(fourth(third(second(first(x)))))


if __name__ == "__main__":
    app = tidewheel.open(sys.argv[1])
    x = int(sys.argv[2])
    output = app.run(five, x=x).output
    app.close()
    if output != ((x + 1) * 2 - 3) ** 2 % 7:
        sys.exit(f"wrong answer {output}")
