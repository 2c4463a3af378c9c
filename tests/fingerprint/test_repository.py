"""What git knows is read with one process, and a tree can be made again from it."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tidewheel.errors import StorageUnavailable
from tidewheel.fingerprint.repository import (
    Look,
    apply_patch,
    archive_of,
    has_commit,
    origin_of,
    patch_of,
    repository_of,
)

Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """A fresh repository with one commit, and git in it."""

    def command(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", *identity, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    command("init", "-q")
    (tmp_path / "a.py").write_text("A = 1\n")
    (tmp_path / "data.bin").write_bytes(bytes(range(256)))
    (tmp_path / ".gitignore").write_text("ignored/\n")
    command("add", ".")
    command("commit", "-q", "-m", "first")
    return command


def test_look_tells_a_clean_tree(git: Git, tmp_path: Path) -> None:
    tree = Look(tmp_path).tree()
    assert (tree.commit, tree.dirty, tree.untracked, tree.trouble) == (git("rev-parse", "HEAD"), False, (), "")


def test_look_tells_changed_staged_deleted_and_new_files_but_not_ignored_ones(git: Git, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("A = 2\n")
    (tmp_path / "data.bin").unlink()
    (tmp_path / "staged ü.py").write_text("S = 1\n")
    git("add", "staged ü.py")
    (tmp_path / "new folder").mkdir()
    (tmp_path / "new folder" / "b c.py").write_text("B = 1\n")
    (tmp_path / "ignored").mkdir()
    (tmp_path / "ignored" / "x.py").write_text("X = 1\n")
    tree = Look(tmp_path).tree()
    assert set(tree.changed) == {"a.py", "data.bin", "staged ü.py"}
    assert tree.untracked == ("new folder/b c.py",)


def test_look_at_a_repository_without_commits_or_that_is_none(tmp_path: Path) -> None:
    assert repository_of(tmp_path) is None
    assert "not a git repository" in Look(tmp_path).tree().trouble
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    assert repository_of(tmp_path / "below" / "it") == tmp_path
    assert Look(tmp_path).tree().commit == ""


def test_archive_and_patch_make_the_tree_again_in_any_folder(git: Git, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("A = 2\n")
    (tmp_path / "data.bin").write_bytes(bytes(range(255, -1, -1)))
    (tmp_path / "ignored").mkdir()
    laid_out = tmp_path / "ignored" / "out"  # inside the repository, which must not confuse git
    laid_out.mkdir()
    tree = Look(tmp_path).tree()
    patch = tmp_path / "ignored" / "p.patch"
    patch.write_bytes(patch_of(tree))
    with tarfile.open(fileobj=io.BytesIO(archive_of(tmp_path, tree.commit))) as archive:
        archive.extractall(laid_out, filter="data")
    apply_patch(laid_out, patch)
    assert (laid_out / "a.py").read_text() == "A = 2\n"
    assert (laid_out / "data.bin").read_bytes() == bytes(range(255, -1, -1))
    with pytest.raises(StorageUnavailable, match="git apply"):
        apply_patch(laid_out, patch)


def test_patch_leaves_out_what_it_is_told_to(git: Git, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("A = 2\n")
    (tmp_path / "data.bin").write_bytes(b"hidden")
    patch = patch_of(Look(tmp_path).tree(), ("data.bin",))
    assert b"A = 2" in patch
    assert b"data.bin" not in patch


def test_has_commit(git: Git, tmp_path: Path) -> None:
    assert has_commit(tmp_path, git("rev-parse", "HEAD"))
    assert not has_commit(tmp_path, "0" * 40)
    assert not has_commit(tmp_path / "nowhere", "0" * 40)


def test_origin_is_told_without_credentials_also_in_a_linked_tree(git: Git, tmp_path: Path) -> None:
    assert origin_of(tmp_path) == ""
    git("remote", "add", "origin", "https://me:token@example.org/bikes.git")
    linked = tmp_path / "ignored" / "linked"
    git("worktree", "add", "-q", str(linked))
    assert origin_of(tmp_path) == origin_of(linked) == "https://example.org/bikes.git"
