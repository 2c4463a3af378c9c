# No `from __future__ import annotations`: ZenML reads the types.
import sys

from zenml import pipeline, step


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
def five(x: int) -> None:
    fifth(fourth(third(second(first(x)))))


if __name__ == "__main__":
    run = five(x=int(sys.argv[2]))
    if str(run.status) not in ("completed", "ExecutionStatus.COMPLETED"):
        sys.exit(f"ended as {run.status}")
