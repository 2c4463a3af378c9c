"""Settings come from the nearest tidewheel.toml, then from variables; mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidewheel.errors import InvalidInput, NotFound
from tidewheel.settings import load_settings


def test_the_embedded_defaults_hold_when_there_is_no_file(tmp_path: Path) -> None:
    settings = load_settings(tmp_path)
    assert settings.home == tmp_path / ".tidewheel"
    assert settings.database == f"sqlite:///{tmp_path}/.tidewheel/tidewheel.db"
    assert settings.blobs == f"{tmp_path}/.tidewheel/blobs"


def test_the_file_is_found_above_and_its_paths_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "tidewheel.toml").write_text(
        '[dev]\nhome = "state"\n[prod]\ndatabase_url = "postgresql://db/tide"\nserve_port = 9000\n'
    )
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert load_settings(below).home == tmp_path / "state"
    prod = load_settings(below, "prod")
    assert (prod.database, prod.serve_port, prod.environment) == ("postgresql://db/tide", 9000, "prod")


def test_variables_win_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tidewheel.toml").write_text("[dev]\nserve_port = 9000\n")
    monkeypatch.setenv("TIDEWHEEL_SERVE_PORT", "9001")
    monkeypatch.setenv("TIDEWHEEL_HOME", "elsewhere")
    settings = load_settings(tmp_path)
    assert settings.serve_port == 9001
    assert settings.home == tmp_path / "elsewhere"


@pytest.mark.parametrize(
    ("text", "environment", "error", "match"),
    [
        ("[dev\n", "dev", InvalidInput, "not valid TOML"),
        ("[dev]\nserve_prt = 1\n", "dev", NotFound, "serve_port"),
        ("[dev]\nserve_port = 'x'\n", "dev", InvalidInput, "serve_port"),
        ("[dev]\nserve_port = 70000\n", "dev", InvalidInput, "65535"),
        ("[dev]\nserve_workers = 0\n", "dev", InvalidInput, "from 1 on, or auto"),
        ("[dev]\nserve_front = 'slow'\n", "dev", InvalidInput, "uvicorn or fast"),
        ("[dev]\nserve_memory = 'much'\n", "dev", InvalidInput, "serve_memory"),
        ("[dev]\nserve_versions = 'all'\n", "dev", InvalidInput, "deployed or any"),
        ("[dev]\nserve_waiting = 0\n", "dev", InvalidInput, "1 or more"),
        ("[dev]\nexecutors = 'process'\n", "dev", InvalidInput, r"\[dev.executors.process\]"),
        ("[dev]\n[prod]\n", "prd", NotFound, "prod"),
    ],
)
def test_a_mistake_is_named_with_its_mend(
    tmp_path: Path, text: str, environment: str, error: type[Exception], match: str
) -> None:
    (tmp_path / "tidewheel.toml").write_text(text)
    with pytest.raises(error, match=match):
        load_settings(tmp_path, environment)


def test_an_environment_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"tidewheel\.toml"):
        load_settings(tmp_path, "prod")


def test_what_a_server_is_told_comes_in_its_types(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tidewheel.toml").write_text(
        '[dev]\nserve_workers = "auto"\nserve_origins = ["https://a.example"]\nserve_tls_cert = "chain.pem"\n'
    )
    settings = load_settings(tmp_path)
    assert (settings.serve_workers, settings.serve_origins) == ("auto", ("https://a.example",))
    assert settings.serve_tls_cert == str(tmp_path / "chain.pem")
    monkeypatch.setenv("TIDEWHEEL_SERVE_ORIGINS", "https://a.example, https://b.example")
    monkeypatch.setenv("TIDEWHEEL_SERVE_TIMEOUT", "2.5")
    settings = load_settings(tmp_path)
    assert settings.serve_origins == ("https://a.example", "https://b.example")
    assert settings.serve_timeout == 2.5
