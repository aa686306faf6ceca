import errno
import os
from pathlib import Path

import pytest

from weatherdiff.errors import StorageError
from weatherdiff.staging import remove_leftovers, staged


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_nothing_is_visible_before_the_end(tmp_path: Path) -> None:
    with staged(tmp_path / "store.zarr") as temporary:
        temporary.mkdir()
        (temporary / "a").write_text("1")
        assert not (tmp_path / "store.zarr").exists()
    assert names(tmp_path) == ["store.zarr"]


def test_a_failure_leaves_nothing_and_keeps_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def write_half() -> None:
        with staged(target, overwrite=True) as temporary:
            temporary.write_text("new")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        write_half()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["file"]


def test_what_is_there_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(StorageError, match="exists already"), staged(tmp_path / "x"):
        pass
    with staged(tmp_path / "x", overwrite=True) as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert names(tmp_path / "x") == ["new"]
    assert names(tmp_path) == ["x"]


def test_a_file_never_replaces_a_folder(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with (
        pytest.raises(StorageError, match="folder of that name"),
        staged(tmp_path / "x", overwrite=True) as temporary,
    ):
        temporary.write_text("file")
    assert names(tmp_path) == ["x"]


def test_a_full_disk_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No space left") as caught, staged(tmp_path / "x"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.exit_code == 74
    assert names(tmp_path) == []


@pytest.mark.parametrize("renames_before_the_kill", [0, 1, 2])
def test_a_kill_while_replacing_loses_neither_old_nor_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames_before_the_kill: int
) -> None:
    target = tmp_path / "store.zarr"
    target.mkdir()
    (target / "content").write_text("old")
    done = 0
    rename = os.rename

    def killing_rename(a: Path, b: Path) -> None:
        nonlocal done
        if done == renames_before_the_kill:
            raise SystemExit
        done += 1
        rename(a, b)

    monkeypatch.setattr("weatherdiff.staging.os.rename", killing_rename)
    try:
        with staged(target, overwrite=True) as temporary:
            temporary.mkdir()
            (temporary / "content").write_text("new")
    except SystemExit:
        pass
    monkeypatch.undo()
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["store.zarr"]
    assert (target / "content").read_text() == ("new" if renames_before_the_kill == 2 else "old")
