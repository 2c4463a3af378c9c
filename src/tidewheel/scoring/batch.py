"""Score files and datasets of any size: in parts, resumable, on one core, several, or Ray."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import polars as pl

from tidewheel.clock import new_id
from tidewheel.errors import AlreadyRunning, Conflict, InvalidInput, NotFound, StorageUnavailable
from tidewheel.lineage.store import Store
from tidewheel.models.signature import Signature
from tidewheel.predictions.segments import log_folder
from tidewheel.scoring.crew import score_all
from tidewheel.scoring.loaded import Loaded
from tidewheel.scoring.parts import PREDICTION, REQUEST, RUN, VERSION, Stretch, part_file, probability_names, stretches
from tidewheel.scoring.recording import Trace, begin, conclude, known
from tidewheel.scoring.sources import Source, digest_of_files, file_digest, form_of, open_source, remote

PART_ROWS = 65_536  # scored in one call; a kill costs at most so many rows per core
LONGEST = 16  # parts that a process is given at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """How a file is to be scored."""

    keep: tuple[str, ...] = ()  # columns of the input that the output keeps
    jobs: int = 1  # processes
    on: str = "here"  # here or ray
    ray_address: str = "auto"  # of the cluster
    log: bool = False  # whether the prediction log hears of every row
    overwrite: bool = False  # whether an output that exists is replaced
    part_rows: int = PART_ROWS  # rows of a part


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far it is."""

    rows: int  # rows whose answers are kept
    total: int  # rows of the input
    resumed: int  # rows that an earlier process had scored
    seconds: float  # since this process began

    @property
    def rate(self) -> float:
        """Rows per second of this process."""
        return (self.rows - self.resumed) / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What came of it."""

    run_id: str  # the execution in the graph
    model: str  # name:version
    out: str  # where the answers are
    rows: int  # rows of the output
    resumed: int  # rows that an earlier process had scored
    seconds: float  # that this process took
    logged: bool  # whether the prediction log has every row


class _Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder of parts belongs to; parts of another plan are not gone on with."""

    run: str  # id of the execution
    model: str  # digest of the bundle
    reference: str  # name:version
    source: Source  # the input, with what its files looked like
    keep: tuple[str, ...]  # columns that go through
    part_rows: int  # rows of a part
    log: bool  # whether it is logged
    layout: int = 1  # form of this record

    def same(self, other: _Plan) -> bool:
        """Say whether parts of one plan serve the other."""
        return msgspec.structs.replace(self, run="") == msgspec.structs.replace(other, run="")


def score_files(
    store: Store,
    model: Loaded,
    given: str,
    out: str,
    *,
    wishes: Wishes | None = None,
    tell: Callable[[Progress], None] = lambda _: None,
) -> Scored:
    """Score a file, folder, glob, URL or dataset into a file or URL; called again after a kill, it goes on.

    The output appears whole, by one rename, with the kept columns, prediction, probabilities, model_version and
    run_id (and request_id when logged), in the order of the input. Memory stays bounded whatever the size: two parts
    per process. What is scored so far stands beside the output (`.<name>.scoring`) until then.

    Raises NotFound for a missing input or column, InvalidInput for values, files or wishes that cannot be used,
    Conflict for an output that exists or is the input, AlreadyRunning when another process writes that output.
    """
    wishes = wishes or Wishes()
    form_of(out, "output")
    _check_wishes(model, wishes)
    desk = _desk(store, out)
    with _alone(desk, out):
        finished = desk / "finished"
        if finished.exists() and not (desk / "output").exists():
            shutil.rmtree(desk)  # the process was killed after the output had appeared, before it tidied up
            desk.mkdir()
        _check_output(out, given, wishes)
        source = open_source(store, given, model.signature, desk / "input")
        _check_columns(model.signature, source, out, wishes)
        plan = _planned(store, desk, model, source, wishes)
        return _carry_out(store, model, plan, wishes, desk=desk, out=out, tell=tell)


def _carry_out(
    store: Store,
    model: Loaded,
    plan: _Plan,
    wishes: Wishes,
    *,
    desk: Path,
    out: str,
    tell: Callable[[Progress], None],
) -> Scored:
    parts, began = desk / "parts", time.monotonic()
    total, resumed = plan.source.rows, 0
    wanted = stretches(plan.source, plan.part_rows, lambda number: not part_file(parts, number).exists(), LONGEST)
    resumed = rows = total - sum(part.rows for _, run in wanted for part in run)
    log = str(log_folder(store.home, model.portable.name)) if wishes.log else ""
    work = [
        Stretch(source=plan.source, table=table, parts=run, keep=plan.keep, run=plan.run, log=log)
        for table, run in wanted
    ]

    def count(more: int) -> None:
        nonlocal rows
        rows += more
        tell(Progress(rows=rows, total=total, resumed=resumed, seconds=time.monotonic() - began))

    count(0)
    with ThreadPoolExecutor(1) as aside, _told_of_failure(store, plan.run):
        digest = aside.submit(digest_of_files, plan.source)  # reads the input once more, beside the scoring
        score_all(model, work, parts, jobs=wishes.jobs, on=wishes.on, address=wishes.ray_address, tell=count)
        result = desk / "output"
        _join(plan, parts, result, form_of(out, "output"))
        trace = Trace(
            run=plan.run,
            model=model.portable,
            source=plan.source,
            source_digest=digest.result(),
            out=out,
            out_digest=file_digest(result),
            rows=total,
        )
        (desk / "finished").touch()
        _place(result, out)
        conclude(store, trace)
    shutil.rmtree(desk, ignore_errors=True)
    return Scored(
        run_id=plan.run,
        model=plan.reference,
        out=out,
        rows=total,
        resumed=resumed,
        seconds=time.monotonic() - began,
        logged=wishes.log,
    )


def _check_wishes(model: Loaded, wishes: Wishes) -> None:
    if wishes.on not in ("here", "ray"):
        raise NotFound("place to score on", wishes.on, ["here", "ray"])
    if wishes.jobs < 1 or wishes.part_rows < 1:
        raise InvalidInput(f"{wishes.jobs} processes were asked for.", "Ask for 1 or more.")
    if wishes.log and wishes.on == "ray":
        raise InvalidInput("The prediction log is written on this machine.", "Leave out --log, or --on ray.")
    if wishes.log and not model.portable.version:
        raise InvalidInput("Only registered versions are logged.", "Name the model as name:version.")


def _check_output(out: str, given: str, wishes: Wishes) -> None:
    if "://" in out:
        with remote(out) as (files, path):
            exists = files.exists(path)
    else:
        if not Path(out).parent.is_dir():
            raise NotFound("folder", str(Path(out).parent), mend="Make it first.")
        exists = Path(out).exists()
    if out == given or (exists and Path(given).exists() and Path(out).resolve() == Path(given).resolve()):
        raise Conflict(f"{out} is the input and the output.", "Name another output.")
    if exists and not wishes.overwrite:
        raise Conflict(f"{out} exists already.", "Name another output, or say --overwrite.")


def _check_columns(signature: Signature, source: Source, out: str, wishes: Wishes) -> None:
    own = {PREDICTION, VERSION, RUN, REQUEST, *probability_names(signature)}
    if taken := own.intersection(wishes.keep):
        raise InvalidInput(
            f"The output has a column {min(taken)!r} of its own.",
            "Rename the one of the input, or do not keep it.",
        )
    for table in source.tables:
        if "://" not in out and Path(table.path).resolve() == Path(out).resolve():
            raise Conflict(f"{out} is among the inputs.", "Name an output that they do not match.")
        names = source.scan(table).collect_schema().names()
        for name in wishes.keep:
            if name not in names:
                raise NotFound(f"column of {table.place}", name, names)


def _planned(store: Store, desk: Path, model: Loaded, source: Source, wishes: Wishes) -> _Plan:
    """Return the plan of an earlier process when its parts serve, else begin anew."""
    plan = _Plan(
        run=new_id(),
        model=model.portable.digest,
        reference=model.reference,
        source=source,
        keep=wishes.keep,
        part_rows=wishes.part_rows,
        log=wishes.log,
    )
    file, parts = desk / "plan.json", desk / "parts"
    earlier = _read_plan(file)
    if earlier is not None and earlier.same(plan) and known(store, earlier.run):
        return earlier
    shutil.rmtree(parts, ignore_errors=True)
    for name in ("output", "finished"):
        (desk / name).unlink(missing_ok=True)
    parts.mkdir()
    begin(store, plan.run, model.portable, source, parameters=msgspec.to_builtins(_described(plan)))
    partial = file.with_suffix(".partial")
    partial.write_bytes(msgspec.json.encode(plan))
    partial.replace(file)
    return plan


def _described(plan: _Plan) -> dict[str, object]:
    return {"input": plan.source.place, "rows": plan.source.rows, "keep": list(plan.keep), "log": plan.log}


def _read_plan(file: Path) -> _Plan | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Plan)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def _join(plan: _Plan, parts: Path, result: Path, form: str) -> None:
    """Write the parts one after the other as the output, without holding them."""
    count = sum(-(-table.rows // plan.part_rows) for table in plan.source.tables)
    files = [part_file(parts, number) for number in range(count)]
    frame = pl.scan_parquet(files, glob=False).with_columns(
        pl.lit(plan.reference).alias(VERSION), pl.lit(plan.run).alias(RUN)
    )
    if form == "parquet":
        frame.sink_parquet(result, compression="zstd", compression_level=1)
    elif form == "arrow":
        frame.sink_ipc(result)
    elif form == "ndjson":
        frame.sink_ndjson(result)
    else:
        frame.sink_csv(result, separator="\t" if form == "tsv" else ",")
    with result.open("rb") as file:
        os.fsync(file.fileno())


def _place(result: Path, out: str) -> None:
    """Let the output appear whole: by a rename here, by one put on an object store."""
    if "://" not in out:
        result.replace(out)
        return
    with remote(out) as (files, path):
        files.put_file(str(result), path)
    result.unlink()


def _desk(store: Store, out: str) -> Path:
    """Return the folder in which the answers are gathered: beside the output, so that a rename suffices."""
    if "://" in out:
        return store.home / "scoring" / hashlib.sha256(out.encode()).hexdigest()[:32]
    path = Path(out).absolute()
    return path.with_name(f".{path.name}.scoring")


@contextmanager
def _alone(desk: Path, out: str) -> Iterator[None]:
    """Hold the folder of parts for this process alone."""
    try:
        desk.mkdir(parents="scoring" in desk.parts, exist_ok=True)
        lock = os.open(desk.with_name(f"{desk.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except FileNotFoundError as error:
        raise NotFound("folder", str(desk.parent), mend="Make it first.") from error
    except OSError as error:
        raise StorageUnavailable(
            f"{out} cannot be written: {error.strerror}.", "Choose a folder you may write."
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise AlreadyRunning(f"Another process is writing {out}.", "Wait for it, or name another output.") from error
    finally:
        with suppress(OSError):
            if not any(desk.iterdir()):
                desk.rmdir()
        os.close(lock)
        if not desk.exists():
            desk.with_name(f"{desk.name}.lock").unlink(missing_ok=True)


@contextmanager
def _told_of_failure(store: Store, run: str) -> Iterator[None]:
    """Record a scoring that ends before its time; the parts stay, and the next call goes on."""
    from tidewheel.scoring.recording import fail

    try:
        yield
    except BaseException as error:
        with suppress(StorageUnavailable):
            fail(store, run, error)
        raise


def list_parts(desk: Path) -> Sequence[Path]:
    """Return the parts that are kept of an unfinished output."""
    return sorted((desk / "parts").glob("part-*.parquet"))
