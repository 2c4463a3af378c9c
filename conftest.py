"""In CI nothing is skipped: with TIDEWHEEL_CI=1 a skipped test or module is a failure."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

collect_ignore_glob = ["src/tidewheel/database/migrations/*"]  # run by Alembic, importable by nobody else
IN_CI = os.environ.get("TIDEWHEEL_CI") == "1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure in CI; expected failures (xfail) stay what they are."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where every service is present: {item.nodeid}: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn a module that skips itself into a failure in CI."""
    report = yield
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where every service is present: {collector.nodeid}: {report.longrepr}"
    return report
