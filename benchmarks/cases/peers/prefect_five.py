from __future__ import annotations

import sys

from prefect import flow, task


@task
def first(x: int) -> int:
    return x + 1


@task
def second(x: int) -> int:
    return x * 2


@task
def third(x: int) -> int:
    return x - 3


@task
def fourth(x: int) -> int:
    return x * x


@task
def fifth(x: int) -> int:
    return x % 7


@flow
def five(x: int) -> int:
    return fifth(fourth(third(second(first(x)))))


if __name__ == "__main__":
    x = int(sys.argv[2])
    output = five(x)
    if output != ((x + 1) * 2 - 3) ** 2 % 7:
        sys.exit(f"wrong answer {output}")
