"""One retraining: pin the data, hold out the newest part, fit, judge, fit again on all, register, roll out.

How far it has come stands in the loop's state, and every stage is written together with that state. Whoever goes on
after a crash begins at the last stage that was written; whoever was slow and has been replaced cannot write.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import msgspec
import polars as pl

from tidewheel.data import datasets
from tidewheel.database.transaction import Transaction
from tidewheel.errors import AlreadyRunning, CorruptBlob, MissingBlob, NotFound, StorageUnavailable, TidewheelError
from tidewheel.evaluation.evaluate import Evaluation, evaluate
from tidewheel.evaluation.evidence import GateContext
from tidewheel.evaluation.gates import judge
from tidewheel.evaluation.latency_gate import Latency
from tidewheel.evaluation.record import Subject, record_evaluation
from tidewheel.evaluation.verdict import Judgement
from tidewheel.lineage.store import Store
from tidewheel.loop.decisions import decide
from tidewheel.loop.fit import Fitted, Part, fit
from tidewheel.loop.loop import Loop
from tidewheel.loop.material import Material, pin
from tidewheel.loop.policy import gives_up
from tidewheel.loop.state import Claim, Judged, Overtaken, Running
from tidewheel.models.bundle import load_bundle, save_bundle
from tidewheel.models.model import Model
from tidewheel.models.scorer import Scorer
from tidewheel.registry.promotion import promote
from tidewheel.registry.versions import ModelVersion, get_model, register_model
from tidewheel.rollout.begin import begin
from tidewheel.rollout.stored import get_rollout

logger = logging.getLogger("tidewheel.loop")
Ending = Literal["deployed", "rolling", "refused", "failed"]
BASELINE_ROWS = 5_000  # newest rows that make a bundle's baseline
MOST_ATTEMPTS = 5  # processes that may die over one retraining before it counts as failed
LOOK = "Look into the log of the conductor."


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """How a retraining ended."""

    ending: Ending  # deployed at once, rollout begun, refused by a gate, or failed
    reason: str  # in words
    run_id: str = ""  # the run whose model was judged
    version: int | None = None  # registered version, when it passed


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What the parts of one retraining share."""

    store: Store  # where everything is kept
    loop: Loop  # whose retraining
    claim: Claim  # how it is written down
    executor: str  # where steps run

    @property
    def running(self) -> Running:
        """How far it has come."""
        running = self.claim.state.running
        if running is None:
            raise Overtaken(f"No retraining of {self.loop.model} is in flight.", "Look again.")
        return running

    @cached_property
    def material(self) -> Material:
        """The pinned rows; read when a stage needs them."""
        return pin(self.store, self.loop, self.running.dataset, unseen=self.running.unseen)

    @property
    def oddities(self) -> str:
        """What stands out in the rows, as the end of a sentence; empty when nothing does or none were read."""
        found = self.material.oddities if "material" in vars(self) else []
        return f" (of the rows it was given, {'; '.join(found)})" if found else ""

    def fit(self, part: Part) -> Fitted:
        """Run the pipeline on a part of the rows."""
        rows = self.material.fit if part == "candidate" else self.material.all
        if part == "candidate" and self.running.spoiled:
            rows = rows.with_columns(pl.col(self.loop.label).shuffle(seed=0))
        return fit(self.store, self.loop, self.running, rows, part=part, executor=self.executor)

    def tell(self, tx: Transaction, kind: str, text: str, **numbers: Any) -> None:
        """Append a decision."""
        decide(tx, self.store, self.loop.model, kind, text, numbers={"key": self.running.key, **numbers})


def train(store: Store, loop: Loop, claim: Claim, *, executor: str) -> Trained:
    """Bring the retraining that the state says is in flight to its end.

    What goes wrong with it ends it as failed, with a decision that says why. Raises only what does not belong to it:
    Overtaken, AlreadyRunning when its run is still being worked on, StorageUnavailable; it then stays in flight.
    """
    job = _Job(store=store, loop=loop, claim=claim, executor=executor)
    if job.running.attempts > MOST_ATTEMPTS:
        return _failed(job, f"{MOST_ATTEMPTS} processes died over it", LOOK)
    try:
        return _go_on(job)
    except (Overtaken, AlreadyRunning, StorageUnavailable):
        raise
    except TidewheelError as error:
        return _failed(job, error.what + job.oddities, error.mend, run=str(getattr(error, "run_id", "")))
    except Exception as error:  # estimators, gates and rows are the user's: they may raise anything
        logger.exception("The retraining of %s failed.", loop.model)
        return _failed(job, f"{type(error).__name__}: {error}{job.oddities}", LOOK)


def _go_on(job: _Job) -> Trained:
    if job.running.version is None:
        candidate = job.fit("candidate") if job.running.judged is None else None
        judged = job.running.judged if candidate is None else _judge(job, candidate)
        if judged is None or not judged.passed:
            return _refused(job, judged.reason if judged else "")
        if job.loop.refit or candidate is None:
            candidate = job.fit("refit" if job.loop.refit else "candidate")
        _register(job, candidate, judged)
    return _roll_out(job)


def _judge(job: _Job, candidate: Fitted) -> Judged:
    """Let the gates judge and write their verdict down; it is never asked for twice."""
    store, loop, material = job.store, job.loop, job.material
    champion = _champion(store, loop.model)
    signature = candidate.model.signature
    concerned = {"", loop.label, *signature.names}
    findings = datasets.findings_of(store, material.dataset.reference)
    context = GateContext(
        task=signature.task,
        rows=material.held_out,
        label=loop.label,
        candidate=_as_judged(job, candidate.model),
        champion=champion[1] if champion else None,
        findings=[finding for finding in findings if finding.column in concerned],
    )
    judgement = judge(loop.gates, context)
    evaluation = _measure(candidate.model, material, loop.label)
    reason = judgement.reason if loop.gates else "no gates, no objection"
    judged = Judged(passed=judgement.passed, reason=reason, run=candidate.run.id, metrics=dict(evaluation.metrics))
    subject = Subject(
        model=loop.model,
        champion_id=champion[0].version_id if champion else "",
        dataset_version_id=material.dataset.version_id,
        run_id=candidate.run.id,
    )
    _write_verdict(job, subject, judged, judgement, evaluation)
    return judged


def _as_judged(job: _Job, model: Model) -> Scorer:
    """Return what the gates call: the fitted model, or where its time counts the form that would serve.

    That form costs a conversion, which a recipe that is refused would never have needed.
    """
    if not any(isinstance(gate, Latency) for gate in job.loop.gates):
        return model
    return save_bundle(job.store, model, rows=job.material.all.tail(BASELINE_ROWS)).scorer()


def _write_verdict(job: _Job, subject: Subject, judged: Judged, judgement: Judgement, evaluation: Evaluation) -> None:
    with job.claim.moving(running=msgspec.structs.replace(job.running, judged=judged)) as tx:
        at = job.store.clock.now()
        record = record_evaluation(tx, subject, at=at, judgement=judgement, evaluation=evaluation, by="loop")
        _tell_run(job, tx, judged.run, job.material.fit.height)
        verdict = "passed" if judged.passed else "refused"
        text = f"gates {verdict} the candidate: {judged.reason}"
        if job.running.spoiled:
            text = f"game day, shuffled labels: {text}"
        job.tell(tx, f"gate.{verdict}", text, evaluation=record.id, run=judged.run, metrics=judged.metrics)


def _tell_run(job: _Job, tx: Transaction, run: str, rows: int) -> None:
    job.tell(tx, "run.finished", f"run {run[-6:]} on {rows:,} rows succeeded", run=run, rows=rows)


def _measure(candidate: Model, material: Material, label: str) -> Evaluation:
    rows, signature = material.held_out, candidate.signature
    return evaluate(rows[label].to_numpy(), candidate.score(rows), task=signature.task, classes=signature.classes)


def _champion(store: Store, model: str) -> tuple[ModelVersion, Scorer] | None:
    try:
        version = get_model(store, f"{model}@champion")
    except NotFound:
        return None
    try:
        return version, load_bundle(store, version.bundle_digest).scorer()
    except (CorruptBlob, MissingBlob) as error:
        raise type(error)(
            f"The champion {model}:{version.seq} cannot be loaded, so nothing can be compared with it: {error.what}",
            f"{error.mend} Or go back to the version before: tidewheel models rollback {model}",
        ) from error


def _register(job: _Job, made: Fitted, judged: Judged) -> None:
    material, running, loop = job.material, job.running, job.loop
    rows = material.all if loop.refit else material.fit
    bundle = save_bundle(
        job.store,
        made.model,
        rows=rows.tail(BASELINE_ROWS),
        code_digest=made.run.code,
        facets={"run": made.run.id},
    )
    # The number is not known before the version is written, and the claim must be checked before that.
    with job.claim.moving() as tx:
        version = register_model(
            tx,
            loop.model,
            bundle,
            run_id=made.run.id,
            dataset_version_id=material.dataset.version_id,
            metrics=judged.metrics,
            by="loop",
            facets={"cause": running.key, "trigger": running.trigger, "reason": running.reason},
            at=job.store.clock.now(),
        )
        if made.run.id != judged.run:
            _tell_run(job, tx, made.run.id, rows.height)
        job.claim.add(tx, running=msgspec.structs.replace(running, version=version.seq))


def _roll_out(job: _Job) -> Trained:
    store, loop, seq = job.store, job.loop, job.running.version
    version = get_model(store, f"{loop.model}:{seq}")
    found = dict[str, Any](run_id=version.run_id, version=version.seq)
    champion = _champion(store, loop.model)
    if champion is None or loop.rollout is None:
        why = "the first model" if champion is None else "no rollout is declared"
        text = f"version {seq} answers all requests: {why}"
        with job.claim.moving(running=None, fruitless=0) as tx:
            promote(tx, loop.model, version.seq, by="loop", reason=why, at=store.clock.now())
            decide(
                tx,
                store,
                loop.model,
                "model.deployed",
                text,
                numbers={"version": seq, "metrics": dict(version.metrics)},
            )
        return Trained(ending="deployed", reason=text, **found)
    latest = get_rollout(store, loop.model)
    if latest is None or latest.candidate != version.seq:
        fault = loop.game_day.fault if version.seq == 2 else 0.0
        begin(store, loop.model, version.seq, loop.rollout, by="loop", fault=fault)
    job.claim.move(running=None, fruitless=0)
    return Trained(ending="rolling", reason=f"version {seq} begins its rollout", **found)


def _refused(job: _Job, reason: str) -> Trained:
    run = job.running.judged.run if job.running.judged else ""
    _end_in_vain(job, "", "")
    return Trained(ending="refused", reason=reason, run_id=run)


def _failed(job: _Job, what: str, mend: str, *, run: str = "") -> Trained:
    _end_in_vain(job, what, mend, run=run)
    return Trained(ending="failed", reason=what, run_id=run)


def _end_in_vain(job: _Job, failure: str, mend: str, *, run: str = "") -> None:
    """End a retraining that brought nothing; after too many of them in a row a person is called."""
    loop, fruitless = job.loop, job.claim.state.fruitless + 1
    numbers = {"key": job.running.key, "run": run, "mend": mend}
    with job.claim.moving(running=None, fruitless=fruitless) as tx:
        if failure:
            decide(tx, job.store, loop.model, "run.failed", f"retraining failed: {failure}", numbers=numbers)
        if fruitless == loop.give_up_after and gives_up(loop, fruitless):
            text = (
                f"{fruitless} retrainings in a row came to nothing; {loop.model} is retrained by hand alone from now on"
            )
            mend = f"Look at the refusals, then: tidewheel loop trigger {loop.model}"
            decide(tx, job.store, loop.model, "loop.gave_up", text, numbers={"page": True, "mend": mend})
