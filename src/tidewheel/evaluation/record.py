"""Keep evaluations in the graph, and read them back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tidewheel.database.transaction import Transaction
from tidewheel.evaluation.evaluate import Evaluation
from tidewheel.evaluation.verdict import GateResult, Judgement
from tidewheel.lineage.read import list_executions
from tidewheel.lineage.records import Execution
from tidewheel.lineage.write import append_event, finish_execution, link, start_execution


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What was evaluated, on what; ids of the graph, empty where there is none."""

    model: str  # the model's name
    candidate_id: str = ""  # version of the candidate; a refused candidate may never become one
    candidate_digest: str = ""  # its bundle
    champion_id: str = ""  # version it was compared with
    dataset_version_id: str = ""  # version that holds the rows it was judged on
    run_id: str = ""  # run that made the candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationRecord:
    """An evaluation as it was kept."""

    id: str  # the execution
    at: datetime  # when it was kept
    subject: Subject  # what was evaluated
    passed: bool | None  # the gates' verdict, None when no gate judged
    reason: str  # the verdict in words
    results: tuple[GateResult, ...]  # one per gate
    n: int  # labelled rows
    metrics: Mapping[str, float]  # the candidate's metrics on them


def record_evaluation(
    tx: Transaction,
    subject: Subject,
    *,
    at: datetime,
    judgement: Judgement | None = None,
    evaluation: Evaluation | None = None,
    by: str = "",
) -> EvaluationRecord:
    """Keep an evaluation as an execution with its edges and an event, in the caller's transaction.

    The execution evaluated the candidate (its version, else the run that made it) and used the dataset version and the
    champion. The event is `evaluation.passed`, `evaluation.refused`, or `evaluation.measured` when no gate judged.
    """
    facets = _facets(subject, judgement, evaluation)
    execution = start_execution(
        tx, kind="evaluation", job=subject.model, at=at, parent_id=subject.run_id or None, state="RUNNING"
    )
    execution = finish_execution(tx, execution.id, at=at, state="SUCCEEDED", facets=facets)
    evaluated = subject.candidate_id or subject.run_id
    for relation, target, role in (
        ("evaluated", evaluated, "candidate"),
        ("used", subject.dataset_version_id, "rows"),
        ("used", subject.champion_id, "champion"),
    ):
        if target:
            link(tx, execution.id, relation, target, role=role)
    outcome = "measured" if judgement is None else "passed" if judgement.passed else "refused"
    append_event(
        tx,
        f"evaluation.{outcome}",
        {"model": subject.model, **facets},
        at=at,
        subject_id=evaluated,
        execution_id=execution.id,
        by=by,
    )
    return _record(execution)


def list_evaluations(tx: Transaction, model: str, *, limit: int = 50) -> list[EvaluationRecord]:
    """Return the evaluations of a model's candidates, newest first."""
    return [_record(one) for one in list_executions(tx, "evaluation", job=model, limit=limit)]


def _facets(subject: Subject, judgement: Judgement | None, evaluation: Evaluation | None) -> dict[str, Any]:
    results = () if judgement is None else judgement.results
    return {
        "subject": {
            "candidate_id": subject.candidate_id,
            "candidate_digest": subject.candidate_digest,
            "champion_id": subject.champion_id,
            "dataset_version_id": subject.dataset_version_id,
            "run_id": subject.run_id,
        },
        "passed": None if judgement is None else judgement.passed,
        "reason": "" if judgement is None else judgement.reason,
        "gates": [
            {"gate": one.gate, "verdict": one.verdict, "reason": one.reason, "numbers": dict(one.numbers)}
            for one in results
        ],
        "n": 0 if evaluation is None else evaluation.n,
        "metrics": {} if evaluation is None else dict(evaluation.metrics),
        "slices": {}
        if evaluation is None
        else {name: {"n": part.n, "metrics": dict(part.metrics)} for name, part in evaluation.slices.items()},
    }


def _record(execution: Execution) -> EvaluationRecord:
    facets = execution.facets
    return EvaluationRecord(
        id=execution.id,
        at=execution.started,
        subject=Subject(model=execution.job, **facets["subject"]),
        passed=facets["passed"],
        reason=facets["reason"],
        results=tuple(GateResult(**one) for one in facets["gates"]),
        n=facets["n"],
        metrics=facets["metrics"],
    )
