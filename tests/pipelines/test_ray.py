"""Steps on a real Ray cluster of two node processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tests.pipelines.far import far_task, waited

from tidewheel.blobs.folder import FolderBlobs
from tidewheel.errors import InvalidInput, NotFound
from tidewheel.pipelines.executors.ray import RayExecutor, packages_of
from tidewheel.pipelines.executors.seam import Beat, Executor, Held, Outcome, Site, Task
from tidewheel.pipelines.secrets import Secrets
from tidewheel.pipelines.step import Step, step
from tidewheel.pipelines.stored import Shelf
from tidewheel.pipelines.tree import decode, encode
from tidewheel.testing.executors import Kept, OtherProcessContract

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STORE_BYTES = 80_000_000  # the least that Ray takes for an object store
PATIENCE = 120.0


def node_of(pid: int) -> str:
    """Return the raylet, the process that is a node, above a process."""
    while pid > 1 and Path(f"/proc/{pid}/comm").read_text().strip() != "raylet":
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return str(pid)


@step
def where(x: int, pause: float = 0.0) -> str:
    """Say on which node this is executed."""
    time.sleep(pause)
    return f"{x} {node_of(os.getpid())}"


@step
def stays(marker: str) -> str:
    """Wait for a file, on the node that the marker tells of."""
    node = node_of(os.getpid())
    with Path(marker, "begun").open("a") as file:
        file.write(f"{node} {os.getpid()}\n")
    while not Path(marker, "go").exists():
        time.sleep(0.05)
    return node


@step(side_effect=True)
def announces(marker: str) -> str:
    """The same, with an effect outside."""
    return str(stays.__wrapped__(marker))


@step
def grown(rows: pl.DataFrame, by: int) -> pl.DataFrame:
    """Return a frame that does not fit into a row, and say how many blobs came along."""
    return rows.with_columns(pl.col("a") + by)


@step(secrets=("TIDE_KEY",))
def hushed() -> int:
    """Read a secret from the environment."""
    print("it is", os.environ["TIDE_KEY"])
    return len(os.environ["TIDE_KEY"])


@step(cpus=64)
def large() -> int:
    """Ask for more than any node has."""
    return 1


class Two:
    """A head and a second node, each a family of processes."""

    def __init__(self) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        from ray.cluster_utils import Cluster

        self._cluster: Any = Cluster(initialize_head=True, head_node_args=self._wishes(include_dashboard=False))
        self.second: Any = self._cluster.add_node(**self._wishes(resources={"second": 1}))
        self._cluster.wait_for_nodes()
        self.address = str(self._cluster.address)

    def _wishes(self, **more: Any) -> dict[str, Any]:
        return {"num_cpus": 1, "object_store_memory": STORE_BYTES, **more}

    def kill_second(self) -> None:
        """End the second node as a power cut does: the raylet and its workers at once."""
        pids = [info.process.pid for infos in self.second.all_processes.values() for info in infos]
        for pid in pids:
            for child in children(pid):
                os.kill(child, signal.SIGKILL)
            os.kill(pid, signal.SIGKILL)

    def mend(self) -> None:
        """Put a new second node in place of a dead one."""
        self._cluster.remove_node(self.second, allow_graceful=False)
        self.second = self._cluster.add_node(**self._wishes(resources={"second": 1}))
        self._cluster.wait_for_nodes()

    def close(self) -> None:
        self._cluster.shutdown()


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Two]:
    two = Two()
    yield two
    two.close()


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(blobs=FolderBlobs(tmp_path / "blobs"), files=tmp_path / "files")


@pytest.fixture
def executor(cluster: Two, shelf: Shelf, tmp_path: Path) -> Iterator[RayExecutor]:
    opened = ray_executor(cluster, shelf, tmp_path)
    yield opened
    opened.close()


def ray_executor(cluster: Two, shelf: Shelf, folder: Path, **options: Any) -> RayExecutor:
    return RayExecutor(Site(shelf=shelf, attempts=folder / "attempts", options={"address": cluster.address, **options}))


def outcomes(executor: Executor, tasks: list[Task], *, expect: int = 0) -> dict[str, Outcome]:
    """Submit tasks and return what became of them and of others."""
    expect = expect or len(tasks)
    for task in tasks:
        executor.submit(task)
    found: dict[str, Outcome] = {}
    deadline = time.monotonic() + PATIENCE
    while len(found) < expect and time.monotonic() < deadline:
        for message in executor.poll(1.0):
            if not isinstance(message, Beat):
                assert message.id not in found
                found[message.id] = message
    return found


def value(outcome: Outcome, shelf: Shelf) -> Any:
    assert outcome.failure is None, outcome.failure
    return decode(outcome.outputs[0], shelf)


def failure(outcome: Outcome) -> tuple[str, str, str]:
    assert outcome.failure is not None
    return outcome.failure.kind, outcome.failure.message, outcome.failure.mend


class TestRayExecutor(OtherProcessContract):
    """Ray keeps the promises of the seam."""

    @pytest.fixture(scope="class")
    @classmethod
    def make(cls, cluster: Two, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Shelf], Executor]:
        folder = tmp_path_factory.mktemp("ray")
        return lambda shelf: ray_executor(cluster, shelf, folder)


def test_twenty_steps_spread_over_both_nodes(executor: RayExecutor, shelf: Shelf, tmp_path: Path) -> None:
    tasks = [far_task(where, {"x": number, "pause": 0.2}, tmp_path) for number in range(20)]
    found = outcomes(executor, tasks)
    said = [value(found[task.id], shelf).split() for task in tasks]
    assert [int(number) for number, _ in said] == list(range(20))
    assert len({node for _, node in said}) == 2


def test_a_node_killed_under_a_step_is_survived_without_a_try(
    cluster: Two, executor: RayExecutor, shelf: Shelf, tmp_path: Path
) -> None:
    tasks = [far_task(stays, {"marker": str(tmp_path)}, tmp_path) for _ in range(2)]
    for task in tasks:
        executor.submit(task)
    begun = tmp_path / "begun"
    assert waited(lambda: begun.exists() and len(begun.read_text().splitlines()) == 2)
    assert executor.poll(0.0) == []
    doomed = str(cluster.second.all_processes["raylet"][0].process.pid)
    assert doomed in begun.read_text()
    try:
        cluster.kill_second()
        # The step's process hears of it and ends; had it finished first, its answer would be as good as any.
        last = next(int(line.split()[1]) for line in begun.read_text().splitlines() if line.startswith(doomed))
        assert waited(lambda: not Path(f"/proc/{last}").exists())
        (tmp_path / "go").touch()
        found = outcomes(executor, [], expect=2)
        nodes = {value(found[task.id], shelf) for task in tasks}
    finally:
        cluster.mend()
    assert doomed not in nodes
    assert len(begun.read_text().splitlines()) == 3  # the survivor once, the lost one twice
    names = [path.name for path in (tmp_path / "blobs/attempts").iterdir()]
    assert all(name.endswith("-1.json") for name in names)


def test_a_node_killed_under_a_side_effect_is_a_failure(cluster: Two, shelf: Shelf, tmp_path: Path) -> None:
    executor = ray_executor(cluster, shelf, tmp_path, resources={"second": 1})
    task = far_task(announces, {"marker": str(tmp_path)}, tmp_path)
    executor.submit(task)
    try:
        assert waited((tmp_path / "begun").exists)
        cluster.kill_second()
        kind, message, mend = failure(outcomes(executor, [], expect=1)[task.id])
    finally:
        executor.close()
        cluster.mend()
    assert (kind, "its Ray node died" in message, mend) == ("killed", True, "Look at the node.")
    assert len((tmp_path / "begun").read_text().splitlines()) == 1


def test_outputs_are_handed_on_by_reference(
    cluster: Two, shelf: Shelf, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    executor = ray_executor(cluster, shelf, tmp_path, objects="64MiB")
    request.addfinalizer(executor.close)
    rows = pl.DataFrame({"a": range(50_000)})
    first = far_task(grown, {"rows": Held(Kept(stored=encode(rows, shelf), shelf=shelf)), "by": 1}, tmp_path)
    made = outcomes(executor, [first])[first.id]
    assert value(made, shelf)["a"].sum() == rows["a"].sum() + 50_000
    digest = made.outputs[0].digest
    shelf.blobs.delete(digest)  # the next worker can have it from nowhere but Ray's object store
    second = far_task(grown, {"rows": Held(Kept(stored=made.outputs[0], shelf=shelf)), "by": 2}, tmp_path)
    assert value(outcomes(executor, [second])[second.id], shelf)["a"].sum() == rows["a"].sum() + 150_000


def test_without_objects_the_store_is_read(cluster: Two, shelf: Shelf, tmp_path: Path) -> None:
    rows = pl.DataFrame({"a": range(50_000)})
    plain = ray_executor(cluster, shelf, tmp_path, objects=0)
    try:
        first = far_task(grown, {"rows": Held(Kept(stored=encode(rows, shelf), shelf=shelf)), "by": 1}, tmp_path)
        made = outcomes(plain, [first])[first.id]
        shelf.blobs.delete(made.outputs[0].digest)
        second = far_task(grown, {"rows": Held(Kept(stored=made.outputs[0], shelf=shelf)), "by": 2}, tmp_path)
        kind, message, _ = failure(outcomes(plain, [second])[second.id])
    finally:
        plain.close()
    assert (kind, "MissingBlob" in message) == ("raised", True)


def test_secrets_reach_the_worker_and_no_blob(executor: RayExecutor, shelf: Shelf, tmp_path: Path) -> None:
    word = "moonlit-harbour-9"
    task = far_task(hushed, {}, tmp_path, secrets=Secrets({"TIDE_KEY": word}))
    assert value(outcomes(executor, [task])[task.id], shelf) == len(word)
    assert task.log.read_text() == "it is ***\n"
    kept = [path.read_bytes() for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert not [data for data in kept if word.encode() in data]


def test_a_step_that_no_node_can_hold_is_told_at_once(executor: RayExecutor, tmp_path: Path) -> None:
    task = far_task(large, {}, tmp_path)
    kind, message, mend = failure(outcomes(executor, [task])[task.id])
    assert (kind, message) == (
        "unusable",
        "The step large needs CPU 64, and no node of the Ray cluster has all of that.",
    )
    assert "elastic = true" in mend


def test_a_value_that_cannot_travel_is_told(executor: RayExecutor, tmp_path: Path) -> None:
    task = far_task(where, {"x": sys.stdout}, tmp_path)
    kind, message, _ = failure(outcomes(executor, [task])[task.id])
    assert kind == "unusable"
    assert "The argument 'x' of where cannot go to another process" in message


DRIVER = """
import sys, time
from pathlib import Path
from tests.pipelines.far import far_task
from tests.pipelines.test_ray import stays, where
from tidewheel.blobs.folder import FolderBlobs
from tidewheel.pipelines.executors.ray import RayExecutor
from tidewheel.pipelines.executors.seam import Site
from tidewheel.pipelines.stored import Shelf
folder = Path(sys.argv[1])
shelf = Shelf(blobs=FolderBlobs(folder / "blobs"), files=folder / "files")
executor = RayExecutor(Site(shelf=shelf, attempts=folder, options={"address": sys.argv[2]}))
executor.submit(far_task(where, {"x": 5}, folder, key="quick"))
executor.submit(far_task(stays, {"marker": str(folder)}, folder, key="slow"))
time.sleep(600)
"""


def test_a_killed_controller_leaves_what_was_finished(
    cluster: Two, executor: RayExecutor, shelf: Shelf, tmp_path: Path
) -> None:
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(tmp_path), cluster.address], cwd=Path(__file__).parents[2]
    )
    try:
        assert waited(lambda: (tmp_path / "blobs/attempts/quick-1.json").exists() and (tmp_path / "begun").exists())
    finally:
        driver.kill()
        driver.wait()
    adopted = executor.adopt("quick")
    assert adopted is not None
    assert value(adopted, shelf).startswith("5 ")
    assert executor.adopt("slow") is None
    (tmp_path / "go").touch()
    again = far_task(stays, {"marker": str(tmp_path)}, tmp_path, key="slow", attempt=2)
    assert value(outcomes(executor, [again])["slow"], shelf)


def test_packages_of_an_isolated_step_are_rays_business(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("tabulate==0.9.0\n")
    lock = str(tmp_path / "requirements.txt")

    def made(isolate: str) -> Step[..., Any]:
        @step(isolate=isolate)
        def isolated() -> int:
            return 1

        return isolated

    assert packages_of(made(lock), "uv") == {"uv": lock}
    assert packages_of(made(lock), "pip") == {"pip": lock}
    with pytest.raises(InvalidInput, match=r"isolate=\"script\", which Ray cannot install from"):
        packages_of(made("script"), "uv")
    with pytest.raises(InvalidInput, match=r"isolate='no\.lock' of the step isolated names no file"):
        packages_of(made("no.lock"), "uv")


def test_a_cluster_out_of_reach_and_odd_options_are_told(shelf: Shelf, tmp_path: Path) -> None:
    program = f"""
from tests.pipelines.far import far_task
from tests.pipelines.test_ray import where
from pathlib import Path
from tidewheel.blobs.folder import FolderBlobs
from tidewheel.pipelines.executors.ray import RayExecutor
from tidewheel.pipelines.executors.seam import Site
from tidewheel.pipelines.stored import Shelf
folder = Path({str(tmp_path)!r})
site = Site(shelf=Shelf(blobs=FolderBlobs(folder), files=folder), attempts=folder, options={{"address": "127.0.0.1:9"}})
executor = RayExecutor(site)
executor.submit(far_task(where, {{"x": 5}}, folder))
print(executor.poll(0.0)[0].failure)
"""
    environment = {**os.environ, "RAY_gcs_rpc_server_connect_timeout_s": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    said = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "No Ray cluster answers at address = '127.0.0.1:9'" in said.stdout, said.stderr[-2000:]
    assert "ray start --head" in said.stdout
    with pytest.raises(NotFound, match="Did you mean 'address'"):
        RayExecutor(Site(shelf=shelf, attempts=tmp_path, options={"adress": "auto"}))
    with pytest.raises(InvalidInput, match="installer = 'conda'"):
        RayExecutor(Site(shelf=shelf, attempts=tmp_path, options={"installer": "conda"}))
    with pytest.raises(InvalidInput, match="resources = 3"):
        RayExecutor(Site(shelf=shelf, attempts=tmp_path, options={"resources": 3}))
