"""A run is made again from what it recorded: sources, environment and inputs; each output is compared."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from tests.contract.wheels import repacked, wheel

import tidewheel
from tidewheel.blobs.folder import FolderBlobs
from tidewheel.errors import EnvironmentUnavailable
from tidewheel.fingerprint.environment import capture_environment, local_distributions
from tidewheel.fingerprint.place import metadata_folder, requirements
from tidewheel.pipelines.capture import Sources, read_sources
from tidewheel.pipelines.executors.environments import find_uv
from tidewheel.pipelines.rebuild import build_environment

STEPS = """
import os
from pathlib import Path
import polars as pl
from helpers import scale
from tidewheel import pipeline, step

NOISE = Path(os.environ.get("NOISE_FILE", "/nonexistent"))

@step
def rows(n: int) -> pl.DataFrame:
    noise = float(NOISE.read_text()) if NOISE.is_file() else 0.0
    return pl.DataFrame({"a": [scale(i) + noise for i in range(n)]})

@step
def fit(table: pl.DataFrame) -> dict[str, float]:
    return {"mean": float(table["a"].mean())}

@pipeline
def bikes(n: int = 5, seed: int = 1) -> float:
    return fit(rows(n))["mean"]
"""
MODEL_STEPS = """
import polars as pl
from sklearn.linear_model import LinearRegression
from helpers import scale
from tidewheel import Model, pipeline, step

@step
def rows(n: int) -> pl.DataFrame:
    return pl.DataFrame({"a": [scale(i) for i in range(n)]})

@step
def fit(table: pl.DataFrame) -> Model:
    return Model(LinearRegression().fit(table, table["a"] * 2.0), example=table)

@pipeline
def bikes(n: int = 5, seed: int = 1) -> float:
    table = rows(n)
    return float(fit(table).predict(table)[0])
"""
HELPERS = "def scale(i):\n    return i * 1.5\n"


class Project:
    """A user's project in a folder, used by the command line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder.parent / "home"
        self.python = Path(sys.executable)
        self.variables = {"PYTHONHASHSEED": "0"}
        (folder / "bikes.py").write_text(STEPS)
        (folder / "helpers.py").write_text(HELPERS)

    def git(self, *words: str) -> str:
        """Call git."""
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *identity, *words], cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def commit(self) -> None:
        """Make a repository of it."""
        self.git("init", "-q")
        self.git("add", ".")
        self.git("commit", "-q", "-m", "first")

    def call(self, *words: str) -> tuple[int, Any, str]:
        """Call tidewheel; return exit code, what it printed as JSON, and what it said besides."""
        done = subprocess.run(
            [self.python, "-m", "tidewheel", *words, "--home", str(self.home), "--json"],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self.variables},
        )
        try:
            return done.returncode, json.loads(done.stdout.splitlines()[-1]), done.stderr
        except (IndexError, json.JSONDecodeError):
            return done.returncode, None, done.stdout + done.stderr

    def run(self, *words: str) -> str:
        """Run the pipeline; return the run's id."""
        code, found, said = self.call("run", "bikes.py:bikes", *words)
        assert code == 0, said
        return str(found["id"])

    def sources(self, run_id: str) -> Sources:
        """Return what was kept of a run."""
        with sqlite3.connect(self.home / "tidewheel.db") as db:
            (text,) = db.execute("SELECT facets FROM execution WHERE id = ?", (run_id,)).fetchone()
        return read_sources(FolderBlobs(self.home / "blobs"), json.loads(text)["captured"])


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project without git."""
    folder = tmp_path / "project"
    folder.mkdir()
    return Project(folder)


def verdicts(found: Any) -> dict[str, str]:
    """Return the verdict of each output."""
    return {item["name"]: item["verdict"] for item in found["outputs"]}


def test_a_clean_commit_is_reproduced_though_the_tree_has_moved_on(project: Project) -> None:
    project.commit()
    run = project.run()
    (project.folder / "helpers.py").write_text("raise SystemExit('the user is in the middle of something')\n")
    code, found, said = project.call("reproduce", run, "--here")
    assert (code, set(verdicts(found).values())) == (0, {"identical"}), said
    assert set(verdicts(found)) == {"rows", "fit", "output"}
    _, runs, _ = project.call("runs")
    assert found["new"] in {item["id"] for item in runs}
    _, graph, _ = project.call("lineage", found["new"], "--up")
    assert run in json.dumps(graph)
    assert not list((project.home / "reproduce").iterdir())


def test_a_dirty_tree_is_kept_as_patch_and_new_files_but_no_secrets_and_nothing_ignored(project: Project) -> None:
    (project.folder / ".gitignore").write_text("data/\n")
    project.commit()
    (project.folder / "helpers.py").write_text("from extra import FACTOR\ndef scale(i):\n    return i * FACTOR\n")
    (project.folder / "extra.py").write_text("FACTOR = 2.5\n")
    (project.folder / ".env").write_text("PASSWORD=hunter2\n")
    (project.folder / "data").mkdir()
    (project.folder / "data" / "big.csv").write_text("a\n1\n")
    (project.folder / "huge.txt").write_text("x" * 2_000_000)
    run = project.run()
    sources = project.sources(run)
    assert sources.commit == project.git("rev-parse", "HEAD")
    assert set(sources.files) == {"extra.py"}
    assert set(sources.omitted) == {".env", "huge.txt"}
    assert not [path for path in blobs(project) if b"hunter2" in path.read_bytes()]
    project.git("checkout", "-q", "--", ".")
    (project.folder / "extra.py").unlink()
    code, found, said = project.call("reproduce", run, "--here")
    assert (code, set(verdicts(found).values())) == (0, {"identical"}), said


def blobs(project: Project) -> list[Path]:
    """Return every blob's file."""
    return [path for path in (project.home / "blobs").rglob("*") if path.is_file()]


def test_kept_files_stand_in_when_the_repository_has_lost_the_commit(project: Project) -> None:
    project.commit()
    run = project.run()
    project.git("checkout", "-q", "--orphan", "other")
    project.git("rm", "-rfq", "--cached", ".")
    (project.folder / "helpers.py").write_text("broken(\n")
    project.git("commit", "-q", "--allow-empty", "-m", "rewritten")
    for branch in project.git("branch", "--format=%(refname:short)").split():
        if branch != "other":
            project.git("branch", "-qD", branch)
    project.git("reflog", "expire", "--expire=now", "--all")
    project.git("gc", "-q", "--prune=now")
    code, found, said = project.call("reproduce", run, "--here")
    assert (code, set(verdicts(found).values())) == (0, {"identical"}), said
    assert any("has lost the commit" in note for note in found["notes"])


def test_a_project_without_git_keeps_what_was_imported(project: Project) -> None:
    (project.folder / "unused.py").write_text("X = 1\n")
    run = project.run("--param", "n=7")
    sources = project.sources(run)
    assert (sources.repository, set(sources.files)) == (False, {"bikes.py", "helpers.py"})
    for file in ("bikes.py", "helpers.py"):
        (project.folder / file).unlink()
    code, found, said = project.call("reproduce", run, "--here")
    assert (code, set(verdicts(found).values())) == (0, {"identical"}), said


@pytest.mark.parametrize(
    ("noise", "options", "code", "verdict"),
    [
        ("1e-10", (), 3, "within tolerance"),
        ("0.5", (), 4, "different"),
        ("0.5", ("--rtol", "0", "--atol", "10"), 3, "within tolerance"),
        ("1e-9", ("--rtol", "0", "--atol", "0"), 4, "different"),
    ],
)
def test_each_verdict_has_its_exit_code(
    project: Project, noise: str, options: tuple[str, ...], code: int, verdict: str
) -> None:
    file = project.folder.parent / "noise.txt"
    project.variables["NOISE_FILE"] = str(file)
    run = project.run()
    file.write_text(noise)
    found_code, found, said = project.call("reproduce", run, "--here", *options)
    assert (found_code, found["verdict"]) == (code, verdict), said
    assert verdicts(found)["rows"] == verdict
    detail = next(item["detail"] for item in found["outputs"] if item["name"] == "rows")
    assert "column 'a': " in detail
    assert "of 5 cells differ" in detail


def test_every_step_runs_though_the_cache_has_all_answers(project: Project) -> None:
    run = project.run()
    _, found, _ = project.call("reproduce", run, "--here")
    with sqlite3.connect(project.home / "tidewheel.db") as db:
        states = [row[0] for row in db.execute("SELECT state FROM execution WHERE parent_id = ?", (found["new"],))]
    assert states == ["COMMITTED", "COMMITTED"]


def test_what_cannot_be_reproduced_says_why(project: Project) -> None:
    code, found, _ = project.call("reproduce", "0199aaaa")
    assert (code, found["kind"]) == (1, "NotFound")
    (project.folder / "bikes.py").write_text(STEPS.replace("@step\ndef fit", "@step(side_effect=True)\ndef fit"))
    run = project.run()
    code, found, _ = project.call("reproduce", run, "--here")
    assert code == 1
    assert "bikes.fit" in found["error"]
    assert "--side-effects" in found["mend"]
    code, found, said = project.call("reproduce", run, "--here", "--side-effects")
    assert code == 0, said
    code, found, said = project.call("gc", "--keep-days", "0", "--keep-runs", "0")
    assert code == 0, said
    for path in blobs(project):
        os.utime(path, (0, 0))
    project.call("gc", "--keep-days", "0", "--keep-runs", "0")
    code, found, said = project.call("reproduce", run, "--here")
    assert code == 1, said
    assert "The sources of the run" in found["error"]
    assert "were collected on" in found["error"]


def only_index(folder: Path) -> dict[str, str]:
    """Return variables by which uv takes packages from a folder and from nowhere else, its cache included."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder.parent / "uv.toml"
    settings.write_text(f'no-index = true\nfind-links = ["{folder}"]\n')
    return {"UV_CONFIG_FILE": str(settings), "UV_OFFLINE": "1", "UV_CACHE_DIR": str(folder.parent / "uv-cache")}


def stub_index(folder: Path, packages: dict[str, str]) -> None:
    """Make a wheel with nothing in it for every package of a lock."""
    for name, pinned in packages.items():
        wheel(folder, name.replace("-", "_"), pinned, "")


def test_the_environment_is_built_from_the_lock_and_used(project: Project, tmp_path: Path) -> None:
    """The packages come from a folder of stubs, which have no code: the process of that environment says so."""
    packages = dict(capture_environment().packages)
    run = project.run()
    stub_index(tmp_path / "index", packages)
    project.variables |= only_index(tmp_path / "index")
    code, found, said = project.call("reproduce", run)
    (made,) = (path for path in (project.home / "environments").iterdir() if path.is_dir())
    left_out = {"tidewheel", *local_distributions()}
    expected = [f"{name}=={version}" for name, version in sorted(packages.items()) if name not in left_out]
    assert (made / "lock.txt").read_text().splitlines() == expected
    installed = {path.name for path in next((made / "lib").glob("python*")).joinpath("site-packages").iterdir()}
    assert f"polars-{packages['polars']}.dist-info" in installed
    assert code == 1
    assert "The process that was to run bikes again ended with" in found["error"], said


def make_own_environment(folder: Path, variables: dict[str, str]) -> Path:
    """Make an environment with tidewheel, editable, and what it needs, as a user would have it; return its Python."""
    for name in requirements("tidewheel"):
        repacked(folder.parent / "index", name)
    uv = find_uv()
    assert uv is not None
    python = folder / "bin" / "python"
    wanted = folder.parent / "wanted.txt"
    wanted.write_text("".join(f"{name}=={version(name)}\n" for name in requirements("tidewheel")))
    for words in (
        ("venv", "--no-project", "--python", sys.executable, folder),
        ("pip", "install", "--no-deps", "--python", python, "-r", wanted),
    ):
        subprocess.run([uv, "--quiet", *words], check=True, env={**os.environ, **variables})
    site = next(folder.glob("lib/python*/site-packages"))
    (site / "tidewheel.pth").write_text(f"{Path(tidewheel.__file__).parents[1]}\n")
    metadata = metadata_folder("tidewheel")
    assert metadata is not None
    shutil.copytree(metadata, site / metadata.name)
    return python


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_real_packages_of_the_lock_give_identical_outputs_in_an_environment_of_their_own(
    project: Project, tmp_path: Path
) -> None:
    project.variables |= only_index(tmp_path / "index")
    project.python = make_own_environment(tmp_path / "own", project.variables)
    (project.folder / "bikes.py").write_text(MODEL_STEPS)
    project.variables["PATH"] = f"{Path(find_uv() or '').parent}{os.pathsep}{os.environ['PATH']}"
    run = project.run()
    code, found, said = project.call("reproduce", run)
    assert (code, set(verdicts(found).values())) == (0, {"identical"}), said
    assert not [note for note in found["notes"] if "digest of the code" in note]
    (made,) = (path for path in (project.home / "environments").iterdir() if path.is_dir())
    assert f"polars=={version('polars')}" in (made / "lock.txt").read_text().splitlines()
    assert not list(made.glob("lib/python*/site-packages/tidewheel*"))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only index."""
    folder = tmp_path / "wheels"
    wheel(folder, "tidal_chart", "1.2", "HEIGHT = 3\n")
    for name, text in only_index(folder).items():
        monkeypatch.setenv(name, text)
    return folder


PYTHON = ".".join(map(str, sys.version_info[:3]))


def test_an_environment_holds_exactly_its_lock_and_is_made_once(index: Path, tmp_path: Path) -> None:
    packages = {"tidal-chart": "1.2", "tidewheel": "0.1.0", "my-project": "3"}
    first = build_environment(tmp_path / "e", PYTHON, packages, ["my_project"])
    height = subprocess.run(
        [first, "-c", "import tidal_chart; print(tidal_chart.HEIGHT)"], capture_output=True, check=True
    )
    assert height.stdout == b"3\n"
    for name in ("polars", "tidewheel"):
        assert subprocess.run([first, "-c", f"import {name}"], capture_output=True, check=False).returncode == 1
    (index / "tidal_chart-1.2-py3-none-any.whl").unlink()
    assert build_environment(tmp_path / "e", PYTHON, packages, ["my_project"]) == first


@pytest.mark.parametrize("packages", [{"tidal-chart": "9.9"}, {"gone-for-good": "1.0"}])
def test_a_lock_that_cannot_be_installed_names_the_package(
    index: Path, tmp_path: Path, packages: dict[str, str]
) -> None:
    with pytest.raises(EnvironmentUnavailable, match=rf"{next(iter(packages))}.*cannot be installed any more"):
        build_environment(tmp_path / "e", PYTHON, packages)
    assert not [path for path in (tmp_path / "e").iterdir() if path.is_dir()]


def test_a_python_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    with pytest.raises(EnvironmentUnavailable, match=r"Python 3\.4, .*not available.*(.|\n)*uv python install 3\.4"):
        build_environment(tmp_path / "e", "3.4.9", {})
