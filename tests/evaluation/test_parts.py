"""Sums between runs: what a file declares is compared with what it holds; nothing in it is run."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from weatherdiff.errors import StorageError
from weatherdiff.evaluation.parts import read_part, write_part


@pytest.fixture
def part() -> xr.Dataset:
    """Sums of two initial times, with all types that sums have."""
    return xr.Dataset(
        {
            "sum_over": (("init_time", "variable"), np.arange(6.0).reshape(2, 3), {"units": "K"}),
            "valid_time_found": ("init_time", [True, False]),
            "map_count": (("x",), np.arange(5, dtype=np.int32)),
        },
        {
            "init_time": np.array(["2020-01-01", "2020-01-02"], "datetime64[ns]"),
            "variable": ["2m_temperature", "wind", "x"],
        },
        {"members": 3},
    )


def test_sums_come_back_as_they_were(part: xr.Dataset, tmp_path: Path) -> None:
    write_part(part, tmp_path / "a.npz")
    xr.testing.assert_identical(read_part(tmp_path / "a.npz"), part)


def member(header: str, content: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


@pytest.mark.parametrize(
    "content",
    [
        member("{'descr': '<f8', 'fortran_order': False, 'shape': (1125899906842624,)}", b"1" * 8),
        member("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cos\nsystem\n"),
        member("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}", b"12345678"),
        member("{'descr': '<f8', 'fortran_order': False, 'shape': (1,)}", b"1234567890"),
        b"no array",
    ],
    ids=["a petabyte", "a pickle", "less than nothing", "more than declared", "no array"],
)
def test_what_is_not_as_declared_is_refused_before_it_is_read(
    part: xr.Dataset, tmp_path: Path, content: bytes
) -> None:
    write_part(part, tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("sum_more.npy", content)
    with pytest.raises(StorageError, match="damaged"):
        read_part(tmp_path / "a.npz")


def test_compressed_arrays_are_refused_as_nothing_bounds_them(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, layout=np.array("{}"), zeros=np.zeros(10**6))
    (tmp_path / "a.npz").write_bytes(buffer.getvalue())
    with pytest.raises(StorageError, match="not stored as it is"):
        read_part(tmp_path / "a.npz")


@pytest.mark.parametrize("damage", ["a bit flipped", "the file cut"])
def test_no_damage_changes_a_number(part: xr.Dataset, tmp_path: Path, damage: str) -> None:
    path, rng = tmp_path / "a.npz", random.Random(damage)  # noqa: S311
    write_part(part, path)
    whole = path.read_bytes()
    for _ in range(100):
        changed, place = bytearray(whole), rng.randrange(len(whole))
        if damage == "a bit flipped":
            changed[place] ^= 1 << rng.randrange(8)
        else:
            del changed[place:]
        path.write_bytes(changed)
        try:
            found = read_part(path)
        except StorageError:
            continue
        xr.testing.assert_identical(found, part)  # a date in the zip, which nobody reads
