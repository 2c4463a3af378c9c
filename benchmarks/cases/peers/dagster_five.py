# No `from __future__ import annotations`: Dagster reads the types.
import sys

from dagster import DagsterInstance, execute_job, job, op, reconstructable


@op(config_schema={"x": int})
def first(context) -> int:
    return context.op_config["x"] + 1


@op
def second(x: int) -> int:
    return x * 2


@op
def third(x: int) -> int:
    return x - 3


@op
def fourth(x: int) -> int:
    return x * x


@op
def fifth(x: int) -> int:
    return x % 7


@job
def five():
    fifth(fourth(third(second(first()))))


if __name__ == "__main__":
    x = int(sys.argv[2])
    config = {"ops": {"first": {"config": {"x": x}}}}
    with DagsterInstance.get() as instance:
        if sys.argv[3:] == ["multiprocess"]:
            result = execute_job(reconstructable(five), instance=instance, run_config=config)
            done = result.success
        else:
            result = five.execute_in_process(run_config=config, instance=instance)
            done = result.success and result.output_for_node("fifth") == ((x + 1) * 2 - 3) ** 2 % 7
    if not done:
        sys.exit("wrong answer")
