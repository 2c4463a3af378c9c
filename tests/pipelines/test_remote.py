"""Workers that see nothing but the blob store: orders, bundles, manifests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import boto3
import polars as pl
import pytest
from tests.pipelines.far import answered, far_task, run_worker, start_worker, waited, write_project

from tidewheel.blobs.folder import FolderBlobs
from tidewheel.blobs.remote import FsspecBlobs
from tidewheel.blobs.store import MemoryBlobs
from tidewheel.clock import new_id
from tidewheel.errors import InvalidInput, NotFound, StorageUnavailable
from tidewheel.pipelines.executors.attempts import Attempts, attempt_name, attempts_beside
from tidewheel.pipelines.executors.bundle import pack
from tidewheel.pipelines.executors.dispatch import Dispatch
from tidewheel.pipelines.executors.remote_order import Answer, order_from
from tidewheel.pipelines.executors.seam import Failure, Outcome, Site
from tidewheel.pipelines.secrets import Secrets, secret
from tidewheel.pipelines.step import Step, step
from tidewheel.pipelines.stored import Shelf, stored_from
from tidewheel.pipelines.target import load_target
from tidewheel.pipelines.tree import decode, encode


@pytest.fixture
def bucket(s3_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty prefix in a bucket; workers find the server by their environment, as on any cluster."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    boto3.client("s3").create_bucket(Bucket="attempts")
    return f"s3://attempts/{new_id()}"


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.services)])
def shelf(request: pytest.FixtureRequest, tmp_path: Path) -> Shelf:
    """A shelf that other machines see: a folder, a bucket."""
    blobs: Any = FolderBlobs(tmp_path / "blobs")
    if request.param == "s3":
        blobs = FsspecBlobs(request.getfixturevalue("bucket"))
    return Shelf(blobs=blobs, files=tmp_path / "files")


@pytest.fixture
def local(tmp_path: Path) -> Shelf:
    """A shelf in a folder."""
    return Shelf(blobs=FolderBlobs(tmp_path / "blobs"), files=tmp_path / "files")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The steps of a project of several modules, in a folder that workers do not see."""
    folder = write_project(tmp_path / "project")
    monkeypatch.syspath_prepend(str(folder))
    yield load_target("shore.steps:level")
    for name in [name for name in sys.modules if name.partition(".")[0] in ("shore", "tide_tables")]:
        del sys.modules[name]


def dispatch_at(shelf: Shelf, tmp_path: Path, **options: Any) -> Dispatch:
    return Dispatch(Site(shelf=shelf, attempts=tmp_path / "attempts", options=options), "far", ())


@step
def halves(rows: pl.DataFrame, at: int) -> tuple[pl.DataFrame, int]:
    """Two artifacts."""
    return rows.head(at), rows.height


@step
def fails(how: str) -> int:
    """Raise."""
    raise KeyError(how)


@step(timeout=0.5)
def lingers(marker: str) -> int:
    """Start a child that outlives everything, and go on for ever."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(marker).write_text(str(child.pid))
    threading.Event().wait()
    return 1


@step(secrets=("TIDE_KEY",), variables={"TIDE_PLACE": "harbour"})
def reads_secret() -> str:
    """Say too much."""
    print("the key is", secret("TIDE_KEY"))
    return os.environ["TIDE_PLACE"] + str(len(os.environ["TIDE_KEY"]))


@step
def takes(value: Any) -> int:
    """Take anything."""
    return 1


@pytest.mark.slow
def test_a_worker_with_nothing_but_blobs_executes_a_step_of_a_project(
    shelf: Shelf, project: Step[..., Any], tmp_path: Path
) -> None:
    dispatch = dispatch_at(shelf, tmp_path)
    task = far_task(project, {"x": 4}, tmp_path)
    outcome = answered(dispatch, task, tmp_path)
    assert outcome.failure is None
    assert [decode(stored, shelf) for stored in outcome.outputs] == [2 * 4 + 7 + 1000]
    assert outcome.code == task.code  # the digest that the worker found for itself
    assert "level of 4" in task.log.read_text()
    assert outcome.usage is not None
    assert outcome.usage.peak_memory > 10_000_000
    adopted = dispatch_at(shelf, tmp_path).adopt(task.id)
    assert adopted is not None
    assert adopted.outputs == outcome.outputs
    assert dispatch.adopt(new_id()) is None


@pytest.mark.slow
def test_frames_go_and_come_by_reference(shelf: Shelf, tmp_path: Path) -> None:
    from tidewheel.pipelines.executors.seam import Held
    from tidewheel.testing.executors import Kept

    rows = pl.DataFrame({"a": range(1000)})
    held = Held(Kept(stored=encode(rows, shelf), shelf=shelf))
    dispatch = dispatch_at(shelf, tmp_path)
    task = far_task(halves, {"rows": held, "at": 3}, tmp_path)
    assert rows.write_csv() not in json.dumps(order_from(shelf.blobs.get(dispatch.send(task).order)).as_json())
    outcome = answered(dispatch, task, tmp_path)
    head, height = (decode(stored, shelf) for stored in outcome.outputs)
    assert head.equals(rows.head(3))
    assert height == 1000


def test_a_bundle_holds_what_is_imported_and_nothing_else(project: Step[..., Any], tmp_path: Path) -> None:
    bundle = pack(project)
    assert bundle.files == (
        "shore/__init__.py",
        "shore/deep/__init__.py",  # an empty one: another `shore` that is installed must not win
        "shore/deep/late.py",
        "shore/deep/sums.py",
        "shore/steps.py",
        "shore/tools.py",
        "tide_tables.py",
    )
    os.utime(tmp_path / "project/tide_tables.py", (1, 1))
    assert pack(project).data == bundle.data
    (tmp_path / "project/tide_tables.py").write_text("HEIGHT = 8\n")
    assert pack(project).data != bundle.data


def test_a_bundle_that_is_too_long_is_refused(project: Step[..., Any], tmp_path: Path) -> None:
    (tmp_path / "project/tide_tables.py").write_text("HEIGHT = 7\n" + "#" * 5000)
    with pytest.raises(InvalidInput, match=r"level needs has 5\d+ bytes, more than 4096 \(tide_tables.py .*\n.*code="):
        pack(project, limit=4096)


@pytest.mark.slow
def test_modules_by_computed_names_are_shipped_when_named(local: Shelf, tmp_path: Path) -> None:
    folder = write_project(
        tmp_path / "project",
        {
            "plugged.py": """
                from importlib import import_module
                from tidewheel.pipelines.step import step

                @step
                def bare(name: str) -> int:
                    return import_module(name).WORTH

                @step(code=["plug_one", "worth.txt"])
                def named(name: str) -> int:
                    return import_module(name).WORTH
                """,
            "plug_one.py": "WORTH = 11\n",
            "worth.txt": "twelve",
        },
    )
    sys.path.insert(0, str(folder))
    try:
        loaded = {name: load_target(f"plugged:{name}") for name in ("bare", "named")}
        assert pack(loaded["named"]).files == ("plug_one.py", "plugged.py", "worth.txt")
        dispatch = dispatch_at(local, tmp_path)
        bare = answered(dispatch, far_task(loaded["bare"], {"name": "plug_one"}, tmp_path), tmp_path)
        named = answered(dispatch, far_task(loaded["named"], {"name": "plug_one"}, tmp_path), tmp_path)
    finally:
        sys.path.remove(str(folder))
        for name in ("plugged", "plug_one"):
            sys.modules.pop(name, None)
    assert bare.failure is not None
    assert "No module named 'plug_one'" in bare.failure.message
    assert [decode(stored, local) for stored in named.outputs] == [11]


@pytest.mark.slow
def test_a_step_of_a_script_is_pickled_with_the_modules_it_uses(local: Shelf, tmp_path: Path) -> None:
    folder = write_project(
        tmp_path / "project",
        {
            "tide_tables.py": "HEIGHT = 7\n",
            "script.py": """
                import sys
                from pathlib import Path
                import tide_tables
                from tests.pipelines.far import far_task
                from tidewheel.blobs.folder import FolderBlobs
                from tidewheel.pipelines.executors.dispatch import Dispatch
                from tidewheel.pipelines.executors.seam import Site
                from tidewheel.pipelines.step import step
                from tidewheel.pipelines.stored import Shelf

                @step
                def rise(x: int) -> int:
                    return x + tide_tables.HEIGHT

                here = Path(sys.argv[1])
                shelf = Shelf(blobs=FolderBlobs(here / "blobs"), files=here / "files")
                task = far_task(rise, {"x": 1}, here, key="from-a-script")
                sent = Dispatch(Site(shelf=shelf, attempts=here), "far", ()).send(task)
                print(sent.url, sent.order, sent.manifest, task.code)
                """,
        },
    )
    said = subprocess.run(
        [sys.executable, folder / "script.py", tmp_path],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    program = [sys.executable, "-m", "tidewheel.pipelines.executors.remote", *said[:3]]
    subprocess.run(program, cwd=tmp_path / "blobs", check=True)
    outcome = dispatch_at(local, tmp_path).adopt("from-a-script")
    assert outcome is not None
    assert [decode(stored, local) for stored in outcome.outputs] == [8]
    assert outcome.code == said[3]  # what came by value is what was sent: its answer may be cached


@pytest.mark.slow
def test_what_a_step_raises_is_a_manifest_too(local: Shelf, tmp_path: Path) -> None:
    dispatch = dispatch_at(local, tmp_path)
    task = far_task(fails, {"how": "ebb"}, tmp_path)
    failure = answered(dispatch, task, tmp_path).failure
    assert failure is not None
    assert failure.kind == "raised"
    assert "KeyError: 'ebb'" in failure.message
    assert failure.types[:2] == ("builtins.KeyError", "builtins.LookupError")
    assert "in fails" in task.log.read_text()
    assert dispatch.adopt(task.id) is None  # a failure is not adopted: the run decides about another try


@pytest.mark.slow
def test_an_overdue_step_is_ended_with_its_children(local: Shelf, tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    task = far_task(lingers, {"marker": str(marker)}, tmp_path)
    failure = answered(dispatch_at(local, tmp_path), task, tmp_path).failure
    assert failure is not None
    assert (failure.kind, "0.5 s" in failure.message) == ("timeout", True)
    assert waited(lambda: not Path(f"/proc/{marker.read_text()}").exists() or _is_dead(int(marker.read_text())))


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.slow
def test_secrets_come_by_the_environment_and_stay_out_of_order_log_and_output(local: Shelf, tmp_path: Path) -> None:
    word = "moonlit-harbour-9"
    dispatch = dispatch_at(local, tmp_path)
    task = far_task(reads_secret, {}, tmp_path, secrets=Secrets({"TIDE_KEY": word}))
    sent = dispatch.send(task)
    ended = run_worker(sent, tmp_path / "elsewhere", {"TIDE_KEY": word})
    outcome = dispatch.answer(sent)
    assert outcome is not None
    assert [decode(stored, local) for stored in outcome.outputs] == [f"harbour{len(word)}"]
    assert task.log.read_text() == "the key is ***\n"
    assert "the key is ***" in ended.said
    kept = [path.read_bytes() for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert kept
    assert not [data for data in kept if word.encode() in data]


@pytest.mark.slow
def test_a_worker_without_the_secret_says_so(local: Shelf, tmp_path: Path) -> None:
    task = far_task(reads_secret, {}, tmp_path, secrets=Secrets({"TIDE_KEY": "x"}))
    failure = answered(dispatch_at(local, tmp_path), task, tmp_path).failure
    assert failure is not None
    assert (failure.kind, failure.message) == ("unusable", "The worker's environment has no secret TIDE_KEY.")


@pytest.mark.slow
@pytest.mark.parametrize("strict", [False, True])
def test_other_packages_at_the_worker_are_told_and_their_answer_is_not_cached(
    local: Shelf, project: Step[..., Any], tmp_path: Path, strict: bool
) -> None:
    dispatch = dispatch_at(local, tmp_path, strict=strict)
    task = far_task(project, {"x": 4}, tmp_path)
    sent = dispatch.send(task)
    order = order_from(local.blobs.get(sent.order))
    parts = {**order.step.parts, "polars": "polars==0.0.1"}
    changed = replace(order, code="other", step=replace(order.step, parts=parts))
    sent = replace(sent, order=local.blobs.put(changed.written()))
    run_worker(sent, tmp_path / "elsewhere")
    outcome = dispatch.answer(sent)
    assert outcome is not None
    if strict:
        assert outcome.failure is not None
        assert outcome.failure.kind == "unusable"
        assert "polars is missing there and polars==0.0.1 here" in outcome.failure.message
    else:
        assert outcome.code == task.code != "other"  # the run compares it with what it wanted, and does not cache
        assert "polars==0.0.1 here" in task.log.read_text()


@pytest.mark.slow
def test_an_order_that_cannot_be_read_leaves_no_manifest(local: Shelf, tmp_path: Path) -> None:
    dispatch = dispatch_at(local, tmp_path)
    sent = dispatch.send(far_task(fails, {"how": "x"}, tmp_path))
    local.blobs.delete(sent.order)
    ended = run_worker(sent, tmp_path / "elsewhere")
    assert ended.code == 3
    assert sent.order in ended.said
    assert dispatch.answer(sent) is None


@pytest.mark.slow
def test_a_worker_killed_leaves_nothing_and_a_settled_attempt_stays_settled(local: Shelf, tmp_path: Path) -> None:
    dispatch = dispatch_at(local, tmp_path)
    marker = tmp_path / "pid"
    slow = replace(far_task(lingers, {"marker": str(marker)}, tmp_path), timeout=None)
    sent = dispatch.send(slow)
    process = start_worker(sent, tmp_path / "elsewhere")
    assert waited(lambda: marker.exists() and marker.read_text())
    os.killpg(process.pid, 9)
    process.communicate()
    assert dispatch.answer(sent) is None
    killed = dispatch.settle(sent, Failure(kind="killed", message="its node is gone"))
    assert killed.failure is not None
    late = Answer(outcome=Outcome(id=slow.id, code="late"), attempt=1, log="")
    assert not attempts_beside(local.blobs).leave(sent.manifest, late.written())
    again = dispatch.answer(sent)
    assert again is not None
    assert again.failure == killed.failure


def test_an_answer_that_came_in_time_is_better_than_the_failure(local: Shelf, tmp_path: Path) -> None:
    dispatch = dispatch_at(local, tmp_path)
    sent = dispatch.send(far_task(fails, {"how": "x"}, tmp_path))
    done = Answer(outcome=Outcome(id=sent.task.id, code="c"), attempt=1, log="")
    attempts_beside(local.blobs).leave(sent.manifest, done.written())
    assert dispatch.settle(sent, Failure(kind="killed", message="gone")).failure is None


def test_the_last_good_attempt_is_adopted(local: Shelf, tmp_path: Path) -> None:
    attempts, key = attempts_beside(local.blobs), new_id()
    stored = encode(41, local)
    for number, failure in ((1, None), (2, None), (10, None), (11, Failure(kind="killed", message="gone"))):
        outputs = () if failure else (stored,)
        outcome = Outcome(id=key, code=f"c{number}", outputs=outputs, failure=failure)
        attempts.leave(attempt_name(key, number), Answer(outcome=outcome, attempt=number, log="").written())
    adopted = dispatch_at(local, tmp_path).adopt(key)
    assert adopted is not None
    assert (adopted.code, adopted.outputs) == ("c10", (stored,))
    assert stored_from(adopted.outputs[0].as_json()) == stored


def test_one_of_many_writers_leaves_the_manifest(shelf: Shelf) -> None:
    attempts: Attempts = attempts_beside(shelf.blobs)
    won: list[int] = []
    gate = threading.Barrier(8)

    def write(number: int) -> None:
        gate.wait()
        if attempts.leave("a-1.json", b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert attempts.read("a-1.json") == b"%d" % won[0]
    assert attempts.names("a-") == ["a-1.json"]
    assert attempts.names("b") == []
    assert attempts.read("b-1.json") is None
    assert [blob.digest for blob in shelf.blobs.kept()] == []  # manifests are no blobs


def test_arguments_and_steps_that_cannot_travel_are_named(local: Shelf, tmp_path: Path) -> None:
    dispatch = dispatch_at(local, tmp_path)
    with pytest.raises(InvalidInput, match=r"The argument 'value' of takes cannot go to another process.*\n.*inline"):
        dispatch.send(far_task(takes, {"value": threading.Lock()}, tmp_path))
    lock = threading.Lock()

    @step
    def locked() -> int:
        with lock:
            return 1

    with pytest.raises(InvalidInput, match=r"locked cannot go to another process.*\n.*open locks"):
        dispatch.send(far_task(locked, {}, tmp_path))


def test_blobs_in_memory_and_unknown_options_are_refused(tmp_path: Path, local: Shelf) -> None:
    for blobs in (MemoryBlobs(), FsspecBlobs("memory://far")):
        with pytest.raises(InvalidInput, match=r"in memory cannot be seen by workers elsewhere\.\n.*s3://"):
            dispatch_at(Shelf(blobs=blobs, files=tmp_path), tmp_path)
    with pytest.raises(NotFound, match="Did you mean 'strict'"):
        dispatch_at(local, tmp_path, stricht=True)
    with pytest.raises(InvalidInput, match="variables = 3 of the executor far"):
        dispatch_at(local, tmp_path, variables=3)


def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("no folder")
    attempts = attempts_beside(FolderBlobs(tmp_path / "blobs"))
    for call in (lambda: attempts.leave("a-1.json", b""), lambda: attempts.read("a-1.json")):
        with pytest.raises(StorageUnavailable, match="manifests beside"):
            call()
