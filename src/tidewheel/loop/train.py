"""One retraining: pin the data, hold out the newest part, fit, judge, fit again on all, register, roll out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from tidewheel.data import datasets
from tidewheel.data.records import DatasetVersion
from tidewheel.errors import InvalidInput, NotFound, StepFailed, TidewheelError
from tidewheel.evaluation.evaluate import Evaluation, evaluate
from tidewheel.evaluation.evidence import GateContext
from tidewheel.evaluation.gates import judge
from tidewheel.evaluation.record import Subject, record_evaluation
from tidewheel.evaluation.verdict import Judgement
from tidewheel.lineage.store import Store
from tidewheel.lineage.write import link
from tidewheel.loop.decisions import decide, say
from tidewheel.loop.loop import Loop
from tidewheel.loop.triggers import Cause
from tidewheel.models.bundle import load_bundle, save_bundle
from tidewheel.models.model import Model
from tidewheel.models.scorer import Scorer
from tidewheel.pipelines.records import Run
from tidewheel.pipelines.runs import start_run
from tidewheel.registry.promotion import promote
from tidewheel.registry.versions import ModelVersion, get_model, list_versions, register_model
from tidewheel.rollout.begin import begin

Ending = Literal["deployed", "rolling", "refused", "failed"]
BASELINE_ROWS = 5_000  # newest rows that make a bundle's baseline


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """How a retraining ended."""

    ending: Ending  # first model deployed, rollout begun, refused by a gate, or failed
    reason: str  # in words
    run_id: str = ""  # the run whose model was judged
    version: int | None = None  # registered version, when it passed


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """The rows of a retraining, pinned."""

    dataset: DatasetVersion  # where they come from
    fit: pl.DataFrame  # older rows, for the pipeline
    held_out: pl.DataFrame  # newest rows, for the gates

    @property
    def all(self) -> pl.DataFrame:
        """Both parts, in order."""
        return pl.concat([self.fit, self.held_out])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What the parts of one retraining share."""

    store: Store  # where everything is kept
    loop: Loop  # whose retraining
    cause: Cause  # why
    material: Material  # the pinned rows
    executor: str  # where steps run


def train(store: Store, loop: Loop, cause: Cause, dataset: str, *, executor: str) -> Trained:
    """Train on a pinned dataset version and bring what passes the gates towards service.

    Called again for the same cause after a crash it finishes what was begun: committed steps are
    not repeated, and a version that was registered already is not registered twice.
    """
    try:
        material = pin(store, loop, dataset)
        known = _registered(store, loop.model, cause.key)
        if known is not None:
            return _roll_out(store, loop, known)
        return _make(_Job(store=store, loop=loop, cause=cause, material=material, executor=executor))
    except TidewheelError as error:
        say(store, loop.model, "run.failed", f"retraining failed: {error.what}", mend=error.mend, key=cause.key)
        return Trained(ending="failed", reason=error.what)


def pin(store: Store, loop: Loop, reference: str) -> Material:
    """Read the rows of a dataset version and split off the newest part; raises InvalidInput for too few."""
    dataset = datasets.get(store, reference)
    rows = datasets.read(store, reference, last=loop.train_rows)
    if loop.label not in rows.columns:
        raise NotFound("column", loop.label, rows.columns, f"It is the label of the loop of {loop.model}.")
    fewest, most = loop.holdout_rows
    count = min(max(round(rows.height * loop.holdout), fewest), most)
    if rows.height < 2 * count:
        raise InvalidInput(
            f"{reference} has {rows.height} rows; {count} are held out and no fewer can be learned from.",
            f"Wait for {2 * count} rows, or lower holdout_rows.",
        )
    return Material(dataset=dataset, fit=rows.head(rows.height - count), held_out=rows.tail(count))


def _make(job: _Job) -> Trained:
    store, loop, material = job.store, job.loop, job.material
    run, candidate = _fit(job, material.fit)
    champion = _champion(store, loop.model)
    context = GateContext(
        task=candidate.signature.task,
        rows=material.held_out,
        label=loop.label,
        candidate=candidate,
        champion=champion[1] if champion else None,
        findings=datasets.findings_of(store, f"{material.dataset.name}:{material.dataset.seq}"),
    )
    judgement = judge(loop.gates, context)
    evaluation = _measure(candidate, material.held_out, loop.label)
    subject = Subject(
        model=loop.model,
        champion_id=champion[0].version_id if champion else "",
        dataset_version_id=material.dataset.version_id,
        run_id=run.id,
    )
    _record(job, subject, judgement, evaluation)
    if not judgement.passed:
        return Trained(ending="refused", reason=judgement.reason, run_id=run.id)
    if loop.refit:
        run, candidate = _fit(job, material.all)
    return _roll_out(store, loop, _register(job, run, candidate, evaluation))


def _fit(job: _Job, rows: pl.DataFrame) -> tuple[Run, Model]:
    cause, loop = job.cause, job.loop
    run = start_run(
        job.store,
        loop.pipeline,
        {"rows": rows, **loop.parameters},
        cause={"kind": cause.trigger, "key": cause.key, "reason": cause.reason, "model": loop.model},
        executor=job.executor,
    )
    with job.store.database.transaction() as tx:
        link(tx, run.id, "used", job.material.dataset.version_id, role="rows")
        body = {"run": run.id, "state": run.state, "rows": rows.height}
        decide(
            tx,
            job.store,
            loop.model,
            "run.finished",
            f"run {run.id[-6:]} on {rows.height:,} rows {run.state.lower()}",
            numbers=body,
        )
    if run.state != "SUCCEEDED":
        raise StepFailed(f"The run {run.id} {run.state.lower()}: {run.error}", f"See why: tidewheel why {run.id}")
    model = run.output
    if not isinstance(model, Model):
        raise InvalidInput(
            f"The pipeline {run.pipeline} returned a {type(model).__name__}.",
            "The pipeline of a loop returns tidewheel.Model(estimator, example=...).",
        )
    return run, model


def _champion(store: Store, model: str) -> tuple[ModelVersion, Scorer] | None:
    try:
        version = get_model(store, f"{model}@champion")
    except NotFound:
        return None
    return version, load_bundle(store, version.bundle_digest).scorer()


def _measure(candidate: Model, rows: pl.DataFrame, label: str) -> Evaluation:
    signature = candidate.signature
    return evaluate(rows[label].to_numpy(), candidate.score(rows), task=signature.task, classes=signature.classes)


def _record(job: _Job, subject: Subject, judgement: Judgement, evaluation: Evaluation) -> None:
    verdict = "passed" if judgement.passed else "refused"
    store, gates = job.store, job.loop.gates
    with store.database.transaction() as tx:
        record = record_evaluation(
            tx, subject, at=store.clock.now(), judgement=judgement, evaluation=evaluation, by="loop"
        )
        decide(
            tx,
            store,
            job.loop.model,
            f"gate.{verdict}",
            f"gates {verdict} the candidate: {judgement.reason}" if gates else "no gates, no objection",
            numbers={"evaluation": record.id, "metrics": dict(evaluation.metrics), "key": job.cause.key},
            execution_id=record.id,
        )


def _register(job: _Job, run: Run, model: Model, evaluation: Evaluation) -> ModelVersion:
    material, cause = job.material, job.cause
    bundle = save_bundle(
        job.store, model, rows=material.all.tail(BASELINE_ROWS), code_digest=run.code, facets={"run": run.id}
    )
    return register_model(
        job.store,
        job.loop.model,
        bundle,
        run_id=run.id,
        dataset_version_id=material.dataset.version_id,
        metrics=dict(evaluation.metrics),
        by="loop",
        facets={"cause": cause.key, "trigger": cause.trigger, "reason": cause.reason},
    )


def _registered(store: Store, model: str, key: str) -> ModelVersion | None:
    try:
        versions: list[ModelVersion] = list_versions(store, model)
    except NotFound:
        return None
    return next((version for version in versions if version.facets.get("cause") == key), None)


def _roll_out(store: Store, loop: Loop, version: ModelVersion) -> Trained:
    found = dict[str, Any](run_id=version.run_id, version=version.seq)
    if _champion(store, loop.model) is None or loop.rollout is None:
        promote(store, loop.model, version.seq, by="loop", reason="first model" if version.seq == 1 else "no rollout")
        text = f"version {version.seq} answers all requests"
        say(store, loop.model, "model.deployed", text, version=version.seq, metrics=dict(version.metrics))
        return Trained(ending="deployed", reason=text, **found)
    fault = loop.game_day if version.seq == 2 else 0.0
    begin(store, loop.model, version.seq, loop.rollout, by="loop", fault=fault)
    return Trained(ending="rolling", reason=f"version {version.seq} begins its rollout", **found)
