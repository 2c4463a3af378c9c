"""Fixtures that every room's tests share: fresh stores on the real SQLite and PostgreSQL."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from tidewheel.app import import_tables
from tidewheel.blobs.folder import FolderBlobs
from tidewheel.clock import ManualClock, new_id
from tidewheel.database.database import Database, open_database
from tidewheel.database.migrate import prepare
from tidewheel.errors import StorageUnavailable
from tidewheel.lineage.store import Store

POSTGRES = os.environ.get("TIDEWHEEL_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres")


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """A fresh, empty PostgreSQL database, dropped afterwards."""
    server = open_database(POSTGRES)
    try:
        with server.reading():
            pass
    except (StorageUnavailable, sa.exc.DBAPIError) as error:
        server.close()
        pytest.skip(
            f"no PostgreSQL lets tests in at {POSTGRES} ({str(error).splitlines()[0]}); start one: apt-get install "
            "postgresql; pg_ctlcluster 15 main start; or name another with TIDEWHEEL_TEST_POSTGRES"
        )
    admin = server.engine.execution_options(isolation_level="AUTOCOMMIT")
    name = f"tidewheel_{new_id().replace('-', '')}"
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    try:
        yield POSTGRES.rsplit("/", 1)[0] + f"/{name}"
    finally:
        with admin.connect() as connection:
            connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def _store(database: Database, folder: Path) -> Store:
    prepare(database, import_tables)
    return Store(database=database, blobs=FolderBlobs(folder / "blobs"), clock=ManualClock(), home=folder)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A fresh store on SQLite and a local folder, with a clock that stands still."""
    opened = _store(open_database(f"sqlite:///{tmp_path / 'tidewheel.db'}"), tmp_path)
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A fresh store on each database."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'tidewheel.db'}"
    else:
        url = request.getfixturevalue("postgres_url")
    opened = _store(open_database(url), tmp_path)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def s3_url() -> Iterator[str]:
    """The address of an S3 server with an empty account: moto in a process, on a port that the kernel picks."""
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"], stderr=subprocess.PIPE, text=True
    )
    try:
        address = _address(process)
        # It logs each request; a pipe that nobody empties would stop it after 64 kB.
        threading.Thread(target=process.communicate, daemon=True).start()
        yield address
    finally:
        process.terminate()
        process.wait(timeout=10)


def _address(process: subprocess.Popen[str]) -> str:
    said = []
    for line in process.stderr or ():
        said.append(line)
        found = re.search(r"Running on (http://\S+)", line)
        if found:
            return found.group(1)
    pytest.fail("the S3 server of the tests did not start:\n" + "".join(said))
