"""The environment is read from the disk's names and from git, once."""

from __future__ import annotations

import subprocess
from importlib.metadata import distributions, version
from pathlib import Path

import pytest

from tidewheel.fingerprint.environment import capture_environment
from tidewheel.fingerprint.place import distribution_label, installed, module_place, normalised


def test_installed_agrees_with_the_metadata_of_every_distribution() -> None:
    expected = {normalised(found.name): found.version for found in distributions()}
    assert {name: expected[name] for name in expected if name in installed()} == {
        name: version for name, version in installed().items() if name in expected
    }
    assert set(expected) == set(installed())


@pytest.mark.parametrize(("module", "name"), [("numpy", "numpy"), ("sklearn", "scikit-learn"), ("_pytest", "pytest")])
def test_distribution_label_finds_the_distribution_of_an_import_name(module: str, name: str) -> None:
    assert distribution_label(module) == f"{name}=={version(name)}"


@pytest.mark.parametrize(
    ("module", "kind"),
    [("json", "python"), ("sys", "python"), ("pytest", "distribution"), ("tidewheel.errors", "distribution")],
)
def test_module_place_tells_python_from_packages(module: str, kind: str) -> None:
    assert module_place(module).kind == kind


def test_module_place_calls_everything_else_the_project() -> None:
    assert module_place(__name__).kind == "project"


def test_capture_environment_reads_commit_and_dirtiness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", *identity, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    monkeypatch.chdir(tmp_path)
    read = capture_environment.__wrapped__
    assert read().commit == ""
    git("init", "-q")
    (tmp_path / "a.py").write_text("1")
    git("add", "a.py")
    git("commit", "-q", "-m", "first")
    clean = read()
    assert (clean.commit, clean.dirty) == (git("rev-parse", "HEAD"), False)
    (tmp_path / "a.py").write_text("2")
    assert read().dirty
    assert read().digest == clean.digest


def test_capture_environment_is_read_once() -> None:
    assert capture_environment() is capture_environment()
    assert "pytest==" in capture_environment().lock()
