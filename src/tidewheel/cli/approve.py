"""`tidewheel approve` and `tidewheel questions`."""

from __future__ import annotations

from typing import Annotated

import typer

from tidewheel.cli.opened import opened, settings_for
from tidewheel.cli.runs import RunId
from tidewheel.cli.show import Command, HomeOption, JsonFlag, json_out, table


def approve(
    *,
    run: RunId,
    deny: Annotated[bool, typer.Option("--deny", help="Say no.")] = False,
    by: Annotated[str, typer.Option(help="Who answers; without it the user of this process.")] = "",
    reason: Annotated[str, typer.Option(help="Why, for the audit log and for the run.")] = "",
    home: HomeOption = "",
    json: JsonFlag = False,
) -> None:
    """Answer the question that a run waits with: yes, or no with --deny. The answer stands in the audit log."""
    from tidewheel.app import answer_run

    with opened(home) as store:
        answer = answer_run(store, settings_for(home), run, by=by, granted=not deny, reason=reason)
    if json:
        json_out(answer)
        return
    print(f"{'approved' if answer else 'denied'} by {answer.by}: {answer.question}")
    print(f"A process that waits goes on now; a run that was left: tidewheel resume FILE.py:PIPELINE {run}")


def questions(*, home: HomeOption = "", json: JsonFlag = False) -> None:
    """List what runs wait to be answered, by whom, and until when."""
    from tidewheel.pipelines.approvals import open_questions

    with opened(home) as store:
        found = open_questions(store)
    if json:
        json_out(found)
        return
    rows = ((item.run_id, item.pipeline, item.question, ", ".join(item.by) or "anybody", item.until) for item in found)
    table(("run", "pipeline", "question", "by", "until"), rows, empty="Nobody is asked anything.")


COMMANDS = (
    Command(function=approve, example="tidewheel approve 7f3a --reason 'beats the champion'"),
    Command(function=questions, example="tidewheel questions"),
)
