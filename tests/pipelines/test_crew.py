"""Who executes a step, and what of this machine it gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tidewheel.blobs.folder import FolderBlobs
from tidewheel.errors import InvalidInput, NotFound
from tidewheel.pipelines.executors.admission import Ledger, Needs, needs_of
from tidewheel.pipelines.executors.crew import Crew, known_executors, make_executor
from tidewheel.pipelines.executors.machine import Machine, cpu_quota, machine, memory_limit
from tidewheel.pipelines.executors.seam import Site
from tidewheel.pipelines.options import step_options
from tidewheel.pipelines.step import Step
from tidewheel.pipelines.stored import Shelf

GIB = 2**30


def _step(**options: Any) -> Step[..., Any]:
    def work() -> int:
        return 1

    return Step(work, step_options(options))


def _crew(default: str, tmp_path: Path) -> Crew:
    return Crew(default, _shelf(tmp_path), tmp_path / "attempts")


def _shelf(tmp_path: Path) -> Shelf:
    return Shelf(blobs=FolderBlobs(tmp_path / "blobs"), files=tmp_path / "files")


@pytest.mark.parametrize(
    ("default", "options", "place"),
    [
        ("inline", {}, "inline"),
        ("threads", {}, "threads"),
        ("process", {}, "process"),
        ("isolated", {}, "isolated"),
        ("inline", {"timeout": 5}, "process"),
        ("threads", {"timeout": 5}, "process"),
        ("inline", {"memory": "1MiB"}, "process"),
        ("threads", {"variables": {"A": "b"}}, "process"),
        ("threads", {"secrets": ("KEY",)}, "process"),
        ("inline", {"variables": {"A": "b"}}, "inline"),
        ("inline", {"isolate": "script"}, "isolated"),
        ("process", {"isolate": "script"}, "isolated"),
        ("inline", {"isolate": "script", "on": "process"}, "isolated"),
        ("process", {"on": "inline"}, "inline"),
        ("process", {"on": "threads"}, "threads"),
        ("inline", {"on": "ray"}, "ray"),
        ("inline", {"on": "ray", "cpus": 10_000}, "ray"),
        ("kubernetes", {"timeout": 5}, "kubernetes"),
    ],
)
def test_a_step_is_placed_by_its_wishes(tmp_path: Path, default: str, options: dict[str, Any], place: str) -> None:
    assert _crew(default, tmp_path).place(_step(**options)) == place


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        (
            {"on": "threads", "timeout": 5},
            InvalidInput,
            r"pinned to 'threads', where timeout= .*\n.*of its own",
        ),
        ({"on": "threads", "secrets": ("KEY",)}, InvalidInput, "variables="),
        ({"on": "proces"}, NotFound, "Did you mean 'process'"),
        ({"cpus": 10_000}, InvalidInput, r"asks for 10000 cpus; this machine has \d"),
        ({"memory": "9999TiB"}, InvalidInput, r"asks for 9999 TiB of memory; this machine has"),
        ({"gpus": 400}, InvalidInput, r"asks for 400 gpus; this machine has \d+"),
    ],
)
def test_a_wish_that_cannot_be_kept_is_refused_at_the_call(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        _crew("inline", tmp_path).place(_step(**options))


def test_an_unknown_executor_is_answered_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="inline, isolated"):
        _crew("moon", tmp_path)
    with pytest.raises(NotFound, match="moon"):
        make_executor("moon", Site(shelf=_shelf(tmp_path), attempts=tmp_path))
    assert known_executors()[:3] == ["inline", "threads", "process"]


def test_an_executor_of_another_package_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "moonlight-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: moonlight\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[tidewheel.executors]\nmoon = tidewheel.pipelines.executors.threads:ThreadsExecutor\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    made = make_executor("moon", Site(shelf=_shelf(tmp_path), attempts=tmp_path, options={"places": 3}))
    assert (made.places, known_executors()[-1]) == (3, "moon")
    assert _crew("moon", tmp_path).place(_step()) == "moon"
    made.close()


@pytest.mark.parametrize(
    ("name", "options", "error", "match"),
    [
        ("process", {"plces": 2}, NotFound, "Did you mean 'places'"),
        ("threads", {"places": 0}, InvalidInput, "places = 0"),
        ("process", {"places": True}, InvalidInput, "places = True"),
        ("process", {"beat_seconds": 0}, InvalidInput, "beat_seconds = 0"),
        ("isolated", {"installer": "conda"}, InvalidInput, "Use uv or pip"),
    ],
)
def test_odd_options_of_an_executor_are_named(
    tmp_path: Path, name: str, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        make_executor(name, Site(shelf=_shelf(tmp_path), attempts=tmp_path, options=options))


def test_the_ledger_keeps_within_the_machine() -> None:
    ledger = Ledger(Machine(cpus=2, memory=4 * GIB, gpus=()))
    half = Needs(cpus=0.5, memory=GIB, gpus=0)
    for number in range(4):
        assert ledger.admits(half)
        ledger.take(str(number), half)
    assert not ledger.admits(Needs(cpus=0.1, memory=0, gpus=0))  # no processor is left
    ledger.give_back("0")
    assert ledger.admits(half)
    assert not ledger.admits(Needs(cpus=0.5, memory=2 * GIB, gpus=0))  # three of four GiB are taken
    assert ledger.admits(Needs(cpus=2, memory=0, gpus=0), places=4)  # who asks for more places gets them


def test_tenths_of_processors_add_up() -> None:
    ledger = Ledger(Machine(cpus=1, memory=0, gpus=()))
    tenth = Needs(cpus=0.1, memory=GIB, gpus=0)
    for number in range(10):
        assert ledger.admits(tenth)
        ledger.take(str(number), tenth)
    assert not ledger.admits(tenth)


def test_gpus_are_assigned_and_a_shared_one_is_filled_first() -> None:
    ledger = Ledger(Machine(cpus=8, memory=0, gpus=("0", "1", "2")))

    def needs(gpus: float) -> Needs:
        return Needs(cpus=1, memory=0, gpus=gpus)

    assert ledger.take("a", needs(0.5)) == ("0",)
    assert ledger.take("b", needs(0.25)) == ("0",)
    assert ledger.take("c", needs(0.5)) == ("1",)
    assert ledger.take("d", needs(1)) == ("2",)
    assert not ledger.admits(needs(1))
    ledger.give_back("c")
    assert ledger.take("e", needs(1)) == ("1",)
    with pytest.raises(InvalidInput, match="only a single one can be shared"):
        ledger.check("work", needs(1.5))
    ledger.check("work", needs(3))


def test_needs_of_reads_the_options() -> None:
    assert needs_of(_step(cpus=0.5, memory="2GiB", gpus=1)) == Needs(cpus=0.5, memory=2 * GIB, gpus=1)


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000"}, 0.5),
        ({"cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_cpu_quota_reads_both_versions_of_control_groups(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    assert cpu_quota(tmp_path) == quota


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory.max": "1073741824"}, GIB),
        ({"memory.max": "max"}, None),
        ({"memory.limit_in_bytes": "536870912"}, GIB // 2),
        ({"memory.limit_in_bytes": "9223372036854771712"}, None),
        ({}, None),
    ],
)
def test_memory_limit_reads_both_versions_of_control_groups(
    tmp_path: Path, files: dict[str, str], limit: int | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n")
    assert memory_limit(tmp_path) == limit


def test_visible_devices_are_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-8a1b")
    assert machine().gpus == ("3", "GPU-8a1b")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert machine().gpus == ()
