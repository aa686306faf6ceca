import errno
import os
from pathlib import Path

import pytest

from weatherdiff.errors import StorageError
from weatherdiff.staging import staged


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


def cannot(*_: object) -> None:
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


def replaced(target: Path) -> None:
    target.mkdir()
    (target / "content").write_text("old")
    with staged(target, overwrite=True) as temporary:
        temporary.mkdir()
        (temporary / "content").write_text("new")


def test_folders_are_exchanged_in_two_steps_where_they_cannot_be_in_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weatherdiff.staging._exchange_at_once", cannot)
    replaced(tmp_path / "store.zarr")
    assert names(tmp_path) == ["store.zarr"]
    assert (tmp_path / "store.zarr" / "content").read_text() == "new"


@pytest.mark.parametrize("refused", [1, 2, 3])
def test_a_folder_whose_replacement_is_refused_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    count, rename = 0, os.rename

    def refusing(a: Path, b: Path) -> None:
        nonlocal count
        count += 1
        if count == refused:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rename(a, b)

    monkeypatch.setattr("weatherdiff.staging._exchange_at_once", cannot)
    monkeypatch.setattr("weatherdiff.staging.os.rename", refusing)
    with pytest.raises(StorageError, match="Input/output error"):
        replaced(tmp_path / "store.zarr")
    monkeypatch.undo()
    assert names(tmp_path) == ["store.zarr"]
    assert (tmp_path / "store.zarr" / "content").read_text() == "old"


def test_an_exchange_that_fails_for_another_reason_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("weatherdiff.staging._exchange_at_once", broken)
    with pytest.raises(StorageError, match="Input/output error"):
        replaced(tmp_path / "store.zarr")
    assert names(tmp_path) == ["store.zarr"]
    assert (tmp_path / "store.zarr" / "content").read_text() == "old"


def test_a_link_to_a_folder_is_replaced_and_the_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    (tmp_path / "x").symlink_to("elsewhere")
    with staged(tmp_path / "x", overwrite=True) as temporary:
        temporary.mkdir()
    assert names(tmp_path) == ["elsewhere", "x"]
    assert not (tmp_path / "x").is_symlink()
    assert names(tmp_path / "elsewhere") == ["file"]
