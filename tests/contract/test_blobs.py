"""Every blob store of ours keeps the promises of the seam."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import fsspec
import pytest

from tidewheel.blobs.folder import FolderBlobs
from tidewheel.blobs.remote import FsspecBlobs
from tidewheel.blobs.store import BlobStore, MemoryBlobs, digest_of
from tidewheel.clock import new_id
from tidewheel.errors import StorageUnavailable
from tidewheel.testing.blobs import BlobStoreContract


def tail(digest: str) -> str:
    text = digest.removeprefix("sha256:")
    return f"{text[:2]}/{text[2:]}"


class FolderGround:
    """Files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self) -> BlobStore:
        return FolderBlobs(self.folder)

    def overwrite(self, digest: str, data: bytes) -> None:
        (self.folder / tail(digest)).write_bytes(data)

    def lose(self, digest: str) -> None:
        (self.folder / tail(digest)).unlink()


class TestFolderBlobs(BlobStoreContract):
    """A local folder keeps the promises, and a few of its own."""

    @pytest.fixture
    def ground(self, tmp_path: Path) -> FolderGround:
        return FolderGround(tmp_path / "blobs")

    def test_half_written_files_are_no_blobs(self, blobs: BlobStore, ground: FolderGround) -> None:
        digest = blobs.put(b"tide")
        (ground.folder / tail(digest)).with_name(".partial-x").write_bytes(b"ti")
        assert [blob.digest for blob in blobs.kept()] == [digest]

    def test_other_users_may_read_what_the_umask_allows(self, blobs: BlobStore, ground: FolderGround) -> None:
        path = ground.folder / tail(blobs.put(b"tide"))
        beside = path.with_name("beside")
        beside.touch()
        assert path.stat().st_mode == beside.stat().st_mode

    def test_a_folder_that_was_removed_is_made_again(self, blobs: BlobStore, ground: FolderGround) -> None:
        blobs.put(b"tide")
        shutil.rmtree(ground.folder)
        assert [blob.digest for blob in blobs.kept()] == []
        assert blobs.get(blobs.put(b"tide")) == b"tide"


class MemoryGround:
    """A dictionary of this process."""

    def __init__(self) -> None:
        self.store = MemoryBlobs()

    def open(self) -> BlobStore:
        return self.store

    def overwrite(self, digest: str, data: bytes) -> None:
        self.store._kept[digest] = data

    def lose(self, digest: str) -> None:
        del self.store._kept[digest]


class TestMemoryBlobs(BlobStoreContract):
    """The twin in memory keeps the promises."""

    @pytest.fixture
    def ground(self) -> MemoryGround:
        return MemoryGround()


class MemoryUrlGround:
    """fsspec's file system in memory."""

    def __init__(self, name: str) -> None:
        self.path = f"/contract/{name}"

    def open(self) -> BlobStore:
        return FsspecBlobs(f"memory:/{self.path}")

    def overwrite(self, digest: str, data: bytes) -> None:
        fsspec.filesystem("memory").pipe_file(f"{self.path}/{tail(digest)}", data)

    def lose(self, digest: str) -> None:
        fsspec.filesystem("memory").rm_file(f"{self.path}/{tail(digest)}")


class TestMemoryUrl(BlobStoreContract):
    """A memory:// URL keeps the promises."""

    @pytest.fixture
    def ground(self) -> MemoryUrlGround:
        return MemoryUrlGround(new_id())


class BucketGround:
    """A prefix of an S3 bucket; harm is done by another client, which shares no cache with the store."""

    def __init__(self, url: str, prefix: str) -> None:
        self.url, self.prefix = url, prefix
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            region_name="us-east-1",
        )
        self.client.create_bucket(Bucket="tidewheel")

    def open(self) -> BlobStore:
        return FsspecBlobs(
            f"s3://tidewheel/{self.prefix}", key="test", secret="test", client_kwargs={"endpoint_url": self.url}
        )

    def overwrite(self, digest: str, data: bytes) -> None:
        self.client.put_object(Bucket="tidewheel", Key=f"{self.prefix}/{tail(digest)}", Body=data)

    def lose(self, digest: str) -> None:
        self.client.delete_object(Bucket="tidewheel", Key=f"{self.prefix}/{tail(digest)}")


@pytest.mark.services
class TestS3(BlobStoreContract):
    """An S3 server keeps the promises."""

    @pytest.fixture
    def ground(self, s3_url: str) -> BucketGround:
        return BucketGround(s3_url, new_id())


def test_an_s3_server_that_is_gone_is_unavailable() -> None:
    blobs = FsspecBlobs(
        "s3://tidewheel/x",
        key="test",
        secret="test",
        client_kwargs={"endpoint_url": "http://127.0.0.1:9"},
        config_kwargs={"retries": {"max_attempts": 0}, "connect_timeout": 1},
    )
    for call in (
        lambda: blobs.put(b"tide"),
        lambda: [blob.digest for blob in blobs.kept()],
        lambda: blobs.get(digest_of(b"tide")),
    ):
        with pytest.raises(StorageUnavailable, match=r"s3://tidewheel/x.*\n.*credentials"):
            call()


@pytest.mark.services
def test_a_bucket_that_does_not_exist_is_unavailable_not_empty(s3_url: str) -> None:
    blobs = FsspecBlobs("s3://nowhere/x", key="test", secret="test", client_kwargs={"endpoint_url": s3_url})
    with pytest.raises(StorageUnavailable, match="s3://nowhere/x"):
        [blob.digest for blob in blobs.kept()]


def test_a_folder_renews_what_is_put_or_asked_for(tmp_path: Path) -> None:
    blobs = FolderBlobs(tmp_path)
    digest = blobs.put(b"tide")
    path = tmp_path / digest[7:9] / digest[9:]
    now = datetime.now(UTC)
    for use in (lambda: blobs.put(b"tide"), lambda: blobs.exists(digest)):
        os.utime(path, (0, 0))
        assert next(blobs.kept()).used == datetime(1970, 1, 1, tzinfo=UTC)
        use()
        assert next(blobs.kept()).used > now - timedelta(minutes=1)
    os.utime(path, (0, 0))
    assert blobs.delete(digest, unused_since=now)
    assert not list(tmp_path.glob("??/.*"))


def test_an_object_that_was_written_long_ago_is_written_again_when_it_is_put(tmp_path: Path) -> None:
    blobs = FsspecBlobs("memory://old-blobs")
    digest = blobs.put(b"tide")
    (path,) = blobs._files.find(blobs._root)
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    blobs._files.store[path].created = blobs._files.store[path].modified = long_ago
    assert next(blobs.kept()).used == long_ago
    blobs.put(b"tide")
    assert next(blobs.kept()).used > long_ago
    blobs.delete(digest)
