"""The environment is read from the disk's names, once."""

from __future__ import annotations

from importlib.metadata import distributions, version

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


def test_capture_environment_is_read_once() -> None:
    assert capture_environment() is capture_environment()
    assert "pytest==" in capture_environment().lock()
