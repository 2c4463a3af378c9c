"""Steps in this process, one after the other: the cheapest way, and the easiest to debug."""

from __future__ import annotations

from typing import Any

from tidewheel.errors import InvalidInput, StorageUnavailable
from tidewheel.pipelines.active import executing
from tidewheel.pipelines.executors.seam import Beat, Failure, Held, Outcome, Site, Task, kept, types_of
from tidewheel.pipelines.executors.usage import Meter
from tidewheel.pipelines.logs import StepLog, captured, headline, trace
from tidewheel.pipelines.nested import mapped
from tidewheel.pipelines.secrets import NONE, Secrets, equipped, shown_error
from tidewheel.pipelines.stored import Shelf


class InlineExecutor:
    """Executes a task when it is submitted; a timeout cannot be kept here, such steps go to a child process."""

    places = 1
    here = True

    def __init__(self, site: Site) -> None:
        self._shelf = site.shelf
        self._done: list[Outcome] = []

    def submit(self, task: Task) -> None:
        """Execute the task now."""
        with StepLog(task.log, task.secrets) as log:
            self._done.append(execute(task, log, self._shelf))

    def poll(self, timeout: float) -> list[Outcome | Beat]:
        """Return the outcome, if there is one; otherwise none will come."""
        del timeout
        done: list[Outcome | Beat] = [*self._done]
        self._done.clear()
        return done

    def cancel(self, task_id: str) -> None:
        """Do nothing: what was submitted has ended already."""

    def adopt(self, task_id: str) -> Outcome | None:
        """Return nothing: what ran in a dead process died with it."""
        del task_id
        return None

    def close(self) -> None:
        """Do nothing: there is nothing to give back."""


def execute(
    task: Task, log: StepLog, shelf: Shelf, *, given: dict[str, Any] | None = None, own_thread: bool = False
) -> Outcome:
    """Execute a task in this thread; with `own_thread` other ones are at work too, and nothing may escape it.

    `given` are its arguments where they are at hand already; the dict is empty afterwards.
    """
    meter = Meter(own_thread=own_thread)
    try:
        arguments = given if given is not None else filled_arguments(task)
        with captured(log), executing(task.context), equipped(task.step.options.variables, task.secrets):
            result = task.step.apply(arguments)
        arguments.clear()  # a large input goes before the output is encoded
        live, outputs = kept(task.step, result, shelf, task.secrets)
    except StorageUnavailable as error:
        return Outcome(id=task.id, failure=without_storage(error), usage=meter.read())
    except BaseException as error:
        if not own_thread and not isinstance(error, Exception | SystemExit):
            raise  # an interrupt ends the run, not the step
        return Outcome(id=task.id, failure=failure_of(error, log, task.secrets), usage=meter.read())
    return Outcome(id=task.id, outputs=outputs, live=live, code=task.code, usage=meter.read())


def without_storage(error: StorageUnavailable) -> Failure:
    """Return the failure of a task whose values or log cannot be kept or read."""
    return Failure(kind="storage", message=error.what, mend=error.mend, cause=error)


def failure_of(error: BaseException, log: StepLog, secrets: Secrets = NONE) -> Failure:
    """Write the traceback of an error to the step's log and return it as a failure, both without secrets."""
    log.write(trace(error))
    return Failure(
        kind="raised",
        types=types_of(error),
        message=secrets.clean(headline(error)),
        mend=secrets.clean(error.mend) if isinstance(error, InvalidInput) else "",
        cause=shown_error(error, secrets),
    )


def filled_arguments(task: Task) -> dict[str, Any]:
    """Return the arguments of a task as its step is called with."""
    return {name: filled(item) for name, item in task.arguments.items()}


def filled(item: Any) -> Any:
    """Return an argument with every `Held` in it replaced by its value."""
    return mapped(item, (Held,), lambda held: held.given.fresh())
