"""Checkpoints are one file of tensors and JSON, whole or not there, and never a pickle."""

from __future__ import annotations

import errno
import math
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import safe_open

from weatherdiff.errors import InputError, MissingInputError, StorageError
from weatherdiff.training import SafeCheckpointIO, checkpoint


@pytest.fixture
def state() -> dict[str, Any]:
    """Everything that Lightning and PyTorch put into a checkpoint, nested."""
    shared = torch.arange(6.0).reshape(2, 3)
    return {
        "state_dict": {"a.weight": shared.T, "b": torch.zeros(0, 4), "scalar": torch.tensor(3)},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(7.0), "exp_avg": shared}}}],
        "betas": (0.9, 0.99),
        "nested": [(1, [2, (3.5, None)]), {"deep": {(0, "x"): True}}],
        "tagged": {"$tensor": "a name that looks like ours"},
        "infinite": [math.inf, -math.inf],
        "dtypes": {
            str(dtype): torch.ones(2, dtype=dtype)
            for dtype in (torch.bfloat16, torch.float64, torch.int64, torch.bool)
        },
        "text": "Zürich, 5 °C",
        "empty": {"list": [], "tuple": (), "dict": {}},
    }


def _assert_equal(value: Any, expected: Any) -> None:
    assert type(value) is type(expected)
    match expected:
        case torch.Tensor():
            assert value.dtype == expected.dtype
            assert torch.equal(value, expected)
        case dict():
            assert list(value) == list(expected)
            for key in expected:
                _assert_equal(value[key], expected[key])
        case list() | tuple():
            assert len(value) == len(expected)
            for ours, theirs in zip(value, expected, strict=True):
                _assert_equal(ours, theirs)
        case _:
            assert value == expected


def test_a_nested_state_round_trips(state: dict[str, Any], tmp_path: Path) -> None:
    io = SafeCheckpointIO()
    io.save_checkpoint(state, tmp_path / "a.ckpt")
    _assert_equal(io.load_checkpoint(tmp_path / "a.ckpt"), state)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]


def test_the_file_is_safetensors_that_others_can_read(
    state: dict[str, Any], tmp_path: Path
) -> None:
    SafeCheckpointIO().save_checkpoint(state, tmp_path / "a.ckpt")
    with safe_open(tmp_path / "a.ckpt", framework="np") as file:
        shapes = sorted(tuple(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    assert shapes == [(), (), (0, 4), (2,), (2,), (2,), (2,), (2, 3), (3, 2)]


def test_an_object_without_a_safe_form_is_refused_and_the_earlier_checkpoint_stays(
    state: dict[str, Any], tmp_path: Path
) -> None:
    io, path = SafeCheckpointIO(), tmp_path / "a.ckpt"
    io.save_checkpoint(state, path)
    with pytest.raises(TypeError, match="cannot store a set"):
        io.save_checkpoint({"callbacks": {"mine": {1, 2}}}, path)
    _assert_equal(io.load_checkpoint(path), state)


def _disk_full(tensors: Any, path: Path, metadata: Any) -> None:
    path.write_bytes(b"the first half")
    raise OSError(errno.ENOSPC, "No space left on device")


def _disk_full_says_safetensors(tensors: Any, path: Path, metadata: Any) -> None:
    # A folder that does not exist gives the error as the library has it for all of the system's.
    safetensors.torch.save_file(tensors, path / "absent" / "file", metadata)


@pytest.mark.parametrize("save_file", [_disk_full, _disk_full_says_safetensors])
def test_a_failed_save_keeps_the_earlier_checkpoint(
    state: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save_file: Any
) -> None:
    io, path = SafeCheckpointIO(), tmp_path / "a.ckpt"
    io.save_checkpoint(state, path)
    monkeypatch.setattr(checkpoint, "save_file", save_file)
    with pytest.raises(StorageError, match=r"Could not write .*a\.ckpt") as error:
        io.save_checkpoint({"new": torch.ones(3)}, path)
    assert error.value.exit_code == 74
    assert [path.name for path in tmp_path.iterdir()] == ["a.ckpt"]
    _assert_equal(io.load_checkpoint(path), state)


def test_a_pickle_is_refused_unread(tmp_path: Path) -> None:
    class Exploit:
        def __reduce__(self) -> Any:
            return (tmp_path.joinpath("owned").touch, ())

    torch.save({"state_dict": Exploit()}, tmp_path / "new.ckpt")
    torch.save(
        {"state_dict": Exploit()}, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False
    )
    for name in ("new.ckpt", "old.ckpt"):
        with pytest.raises(InputError, match="not a training checkpoint of weatherdiff") as error:
            SafeCheckpointIO().load_checkpoint(tmp_path / name)
        assert error.value.exit_code == 65
    assert not (tmp_path / "owned").exists()


def test_a_safetensors_file_of_something_else_is_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file({"a": torch.ones(2)}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="not a training checkpoint of weatherdiff"):
        SafeCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("path", ["http://example.org/a.ckpt", "s3://bucket/a.ckpt", "absent.ckpt"])
def test_urls_are_not_followed(path: str) -> None:
    with pytest.raises(MissingInputError, match="no checkpoint") as error:
        SafeCheckpointIO().load_checkpoint(path)
    assert error.value.exit_code == 66


def test_a_file_cut_anywhere_is_refused(state: dict[str, Any], tmp_path: Path) -> None:
    io, path = SafeCheckpointIO(), tmp_path / "a.ckpt"
    io.save_checkpoint(state, path)
    whole = path.read_bytes()
    for length in [0, 1, 8, 9, *range(10, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="damaged"):
            io.load_checkpoint(path)


def test_removing_a_checkpoint_twice_is_fine(state: dict[str, Any], tmp_path: Path) -> None:
    io = SafeCheckpointIO()
    io.save_checkpoint(state, tmp_path / "a.ckpt")
    io.remove_checkpoint(tmp_path / "a.ckpt")
    io.remove_checkpoint(tmp_path / "a.ckpt")
    assert not (tmp_path / "a.ckpt").exists()
