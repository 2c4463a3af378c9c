"""Steps in this process, one after the other: the cheapest way, and the easiest to debug."""

from __future__ import annotations

from typing import Any

from tidewheel.errors import InvalidInput, StorageUnavailable
from tidewheel.pipelines.active import executing
from tidewheel.pipelines.executors.seam import Beat, Failure, Held, Outcome, Site, Task, kept, types_of
from tidewheel.pipelines.logs import StepLog, captured, headline, trace
from tidewheel.pipelines.secrets import NONE, Secrets, equipped, shown_error


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
            self._done.append(self._execute(task, log))

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

    def _execute(self, task: Task, log: StepLog) -> Outcome:
        try:
            arguments = {name: filled(item) for name, item in task.arguments.items()}
            with captured(log), executing(task.context), equipped(task.step.options.variables, task.secrets):
                result = task.step.apply(arguments)
            live, outputs = kept(task.step, result, self._shelf)
        except StorageUnavailable as error:
            return Outcome(
                id=task.id, failure=Failure(kind="storage", message=error.what, mend=error.mend, cause=error)
            )
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's code raises is the outcome, and is shown
            return Outcome(id=task.id, failure=failure_of(error, log, task.secrets))
        return Outcome(id=task.id, outputs=outputs, live=live, code=task.code)


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


def filled(item: Any) -> Any:
    """Return an argument with every `Held` in it replaced by its value."""
    if isinstance(item, Held):
        return item.given.fresh()
    if type(item) is dict:
        return {key: filled(inner) for key, inner in item.items()} if holds(item) else item
    if type(item) in (list, tuple):
        return type(item)(filled(inner) for inner in item) if holds(item) else item
    return item


def holds(item: Any) -> bool:
    """Say whether a value holds a stored one: only then it has to be copied."""
    if isinstance(item, Held):
        return True
    if type(item) is dict:
        return any(holds(inner) for inner in item.values())
    return type(item) in (list, tuple) and any(holds(inner) for inner in item)
