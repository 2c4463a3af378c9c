"""Secrets reach the step that names them, and nothing that is stored or shown."""

from __future__ import annotations

import os
import pickle
import sqlite3
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from tidewheel.errors import InvalidInput, NotFound, StepFailed
from tidewheel.lineage.store import Store
from tidewheel.pipelines.plan import plan_run
from tidewheel.pipelines.runs import RunEvent, get_run, list_runs, start_run
from tidewheel.pipelines.secrets import NONE, Secrets, equipped, find_secrets, secret, shown_error
from tidewheel.pipelines.why import why
from tidewheel.settings import load_settings

WORD = 'correct-"horse" battery/staple'
EXECUTORS = ["inline", "threads", "process"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of secrets, as Kubernetes mounts one."""
    path = tmp_path / "mounted"
    path.mkdir()
    (path / "TIDE_PASSWORD").write_text(WORD + "\n")
    return path


@pytest.fixture
def vault(store: Store, folder: Path) -> Store:
    """A store that knows the folder."""
    return replace(store, secrets=folder)


def everything_under(home: Path) -> bytes:
    """Return all bytes that are kept: logs, manifests, blobs, the database in plain."""
    found = [path.read_bytes() for path in home.rglob("*") if path.is_file() and path.parent.name != "mounted"]
    for path in home.rglob("*.db"):
        with sqlite3.connect(path) as connection:
            found += [line.encode() for line in connection.iterdump()]
    return b"\n".join(found)


def traces_of_it(home: Path) -> list[bytes]:
    kept = everything_under(home)
    return [form for form in Secrets({"x": WORD}).redactor().forms if form in kept]


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("how", ["print", "child"])
def test_a_secret_reaches_the_step_and_no_log(
    vault: Store, values: ModuleType, tmp_path: Path, executor: str, how: str
) -> None:
    run = start_run(vault, values.logs_in, {"how": how}, executor=executor)
    assert run.output == ["same", "deep", str(len(WORD))]
    log = Path(run.steps[0].log).read_text()
    assert "out ***\n" in log
    assert "err ***\n" in log
    if how == "child" and executor == "process":
        assert "child ***\n" in log
    assert traces_of_it(tmp_path) == []


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_error_that_tells_a_secret_is_shown_without_it(
    vault: Store, values: ModuleType, tmp_path: Path, executor: str
) -> None:
    told: list[RunEvent] = []
    with pytest.raises(StepFailed, match=r"RuntimeError: cannot log in with \*\*\*") as failed:
        start_run(vault, values.logs_in, {"how": "raise"}, executor=executor, on_event=told.append)
    assert WORD not in str(failed.value)
    assert failed.value.__cause__ is None
    log = Path(failed.value.log).read_text()
    assert "RuntimeError: cannot log in with ***" in log
    assert 'raise RuntimeError(f"cannot log in with {word}")' in log
    assert WORD not in repr(told)
    assert WORD not in "\n".join(why(vault, failed.value.run_id).lines())
    assert traces_of_it(tmp_path) == []
    assert b"cannot log in with ***" in everything_under(tmp_path / "runs"), "the places looked at are the right ones"
    assert b"cannot log in with ***" in everything_under(tmp_path).replace(everything_under(tmp_path / "runs"), b"")


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_secret_cannot_be_returned(vault: Store, values: ModuleType, tmp_path: Path, executor: str) -> None:
    with pytest.raises(StepFailed, match="login returned the secret TIDE_PASSWORD"):
        start_run(vault, values.logs_in, {"how": "return"}, executor=executor)
    assert traces_of_it(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc to look at processes")
@pytest.mark.parametrize("executor", EXECUTORS)
def test_other_users_cannot_see_a_secret_among_the_processes(vault: Store, values: ModuleType, executor: str) -> None:
    assert start_run(vault, values.looks_at_processes, executor=executor).output == []


@pytest.mark.parametrize("executor", EXECUTORS)
def test_the_variables_of_a_step_are_taken_back_after_it(vault: Store, values: ModuleType, executor: str) -> None:
    run = start_run(vault, values.logs_in_and_on, executor=executor)
    assert run.output[1] == []
    assert "TIDE_MODE" not in os.environ
    assert "TIDE_PASSWORD" not in os.environ


def test_another_secret_is_another_answer_only_when_the_step_is_executed(
    vault: Store, values: ModuleType, folder: Path
) -> None:
    first = start_run(vault, values.logs_in)
    (folder / "TIDE_PASSWORD").write_text("another one")
    second = start_run(vault, values.logs_in)
    assert [step.state for step in second.steps] == ["CACHED"], "the value of a secret does not count in the key"
    assert second.output == first.output


def test_a_missing_secret_is_told_before_the_run_begins(store: Store, values: ModuleType) -> None:
    for start in (start_run, plan_run):
        with pytest.raises(NotFound, match=r"no secret named 'TIDE_PASSWORD'.*\n.*The step login needs it.*variable"):
            start(store, values.logs_in)
    assert list_runs(store) == []


def test_a_secret_of_a_step_that_is_perhaps_called_is_looked_for_when_it_is(store: Store, values: ModuleType) -> None:
    assert start_run(store, values.perhaps).output == []
    with pytest.raises(StepFailed, match=r"no secret named 'TIDE_PASSWORD'.*\n.*The step login needs it") as failed:
        start_run(store, values.perhaps, {"go": True})
    (step,) = get_run(store, failed.value.run_id).steps
    assert (step.state, step.attempt) == ("FAILED", 1)
    assert not Path(step.log).exists(), "nothing of it was executed"
    with pytest.raises(NotFound, match="TIDE_PASSWORD"):
        plan_run(store, values.perhaps, {"go": True})


def test_a_missing_secret_names_the_file_and_what_there_is(vault: Store, folder: Path) -> None:
    (folder / "TIDE_PASSWORD").rename(folder / "TIDE_PASWORD")
    with pytest.raises(NotFound, match=r"Did you mean 'TIDE_PASWORD'\?.*the file .*mounted/TIDE_PASSWORD"):
        find_secrets(["TIDE_PASSWORD"], folder, wanted_by="The step login")


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_step_reads_only_what_it_has_named(vault: Store, values: ModuleType, executor: str) -> None:
    with pytest.raises(StepFailed, match=r"'OTHER' is not among those that this step has named \(TIDE_PASSWORD\)"):
        start_run(vault, values.asks_for_another, executor=executor)


def test_the_body_of_a_pipeline_gets_no_secret(vault: Store, values: ModuleType) -> None:
    with pytest.raises(InvalidInput, match=r"in the body of a pipeline.*\n.*inside the step"):
        start_run(vault, values.asks_in_the_body)


def test_a_plain_call_reads_variables_and_the_folder_of_the_settings(
    values: ModuleType, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TIDE_MODE", "flat")
    monkeypatch.setenv("TIDE_PASSWORD", "from the environment")
    assert values.logs_in() == ["same", "flat", "20"]
    monkeypatch.delenv("TIDE_PASSWORD")
    (tmp_path / "tidewheel.toml").write_text('[dev]\nsecrets = "mounted"\n')
    assert Path(load_settings().secrets) == folder
    assert secret("TIDE_PASSWORD") == WORD
    monkeypatch.delenv("TIDEWHEEL_SECRETS", raising=False)
    (tmp_path / "tidewheel.toml").unlink()
    with pytest.raises(NotFound, match="the setting secrets"):
        secret("TIDE_PASSWORD")


def test_variables_win_over_the_folder_and_empty_is_missing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDE_PASSWORD", "variable")
    assert find_secrets(["TIDE_PASSWORD"], folder, wanted_by="it").revealed() == {"TIDE_PASSWORD": "variable"}
    monkeypatch.setenv("TIDE_PASSWORD", "")
    assert find_secrets(["TIDE_PASSWORD"], folder, wanted_by="it").revealed() == {"TIDE_PASSWORD": WORD}
    (folder / "TIDE_PASSWORD").write_text("\n")
    with pytest.raises(NotFound):
        find_secrets(["TIDE_PASSWORD"], folder, wanted_by="it")
    (folder / "TIDE_PASSWORD").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="base64"):
        find_secrets(["TIDE_PASSWORD"], folder, wanted_by="it")


def test_secrets_show_and_pickle_nothing() -> None:
    found = Secrets({"A": WORD})
    assert (repr(found), str([found]), bool(found), bool(NONE)) == ("<secrets A>", "[<secrets A>]", True, False)
    with pytest.raises(InvalidInput, match="cannot be pickled"):
        pickle.dumps(found)


def test_equipped_restores_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDE_MODE", "before")

    def fails_inside() -> None:
        with equipped({"TIDE_MODE": "in it", "TIDE_NEW": "1"}, NONE):
            assert (os.environ["TIDE_MODE"], os.environ["TIDE_NEW"]) == ("in it", "1")
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fails_inside()
    assert os.environ["TIDE_MODE"] == "before"
    assert "TIDE_NEW" not in os.environ


class Quiet(Exception):
    """Keeps a secret where its text does not show it."""

    def __init__(self, word: str) -> None:
        super().__init__()
        self.word = word


def test_a_chained_error_is_shown_only_if_it_tells_nothing() -> None:
    found = Secrets({"A": WORD})
    caused = RuntimeError("failed")
    caused.__cause__ = ValueError(WORD)
    noted = RuntimeError("failed")
    noted.add_note(f"with {WORD}")
    for error in (ValueError(WORD), caused, noted, Quiet(WORD)):
        assert shown_error(error, found) is None
        assert shown_error(error, NONE) is error
    harmless = ValueError("another word")
    assert shown_error(harmless, found) is harmless
