"""A user's own Zarr of one time a chunk is read past the libraries, to the same values."""

import logging
import os

import numpy as np
import pytest
import xarray as xr

from weatherdiff.data.channels import Channels
from weatherdiff.data.loading.direct import direct_reader
from weatherdiff.data.loading.unprepared import SourceReader
from weatherdiff.data.open import open_fields
from weatherdiff.data.sources.source import Source
from weatherdiff.data.sources.stacked import split_channels
from weatherdiff.errors import InputError

FRAMES = 12
WANTED = [7, 0, 11, 7]


@pytest.fixture(scope="module")
def fields(layered):
    return layered(FRAMES)


def stacked(ds):
    """One array of all variables at all levels."""
    channels = Channels.from_dataset(ds)
    array = channels.stack(ds).astype(np.float32)
    names = xr.Variable("channel", np.array(channels.labels, dtype=object))
    units = ("channel", np.array(channels.units, dtype=object))
    return array.assign_coords(channel=names, units=units).to_dataset(name="data")


def write(ds, path, **encoding):
    chunks = {name: {"chunks": (1, *ds[name].shape[1:]), **encoding} for name in ds.data_vars}
    ds.to_zarr(path, zarr_format=3, encoding=chunks, consolidated=False)
    return path


def both_readers(path, **options):
    ds = open_fields(path, **options)
    source = Source(ds, Channels.from_dataset(ds))
    ordinary = SourceReader(source)
    return direct_reader(source, ordinary), ordinary


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize("layout", ["one array a variable", "stacked"])
def test_frames_are_those_that_xarray_gives(fields, tmp_path, layout, turned):
    ds = fields if turned else open_fields(fields).drop_attrs(deep=False).compute()
    path = write(stacked(ds) if layout == "stacked" else ds, tmp_path / "own.zarr")
    reader, ordinary = both_readers(path)
    assert reader is not ordinary
    np.testing.assert_array_equal(reader.read(WANTED), ordinary.read(WANTED))
    out = np.empty((4, 3, 4, 6), np.float32)
    assert reader.read(WANTED, out=out) is out
    np.testing.assert_array_equal(out, ordinary.read(WANTED))


def test_some_of_the_stacked_channels_are_taken_in_the_order_asked_for(fields, tmp_path):
    path = write(stacked(fields), tmp_path / "own.zarr")
    names = ["2m_temperature", "temperature_500"]
    reader, ordinary = both_readers(path, variables=names)
    assert reader is not ordinary
    expected = np.stack([fields["2m_temperature"], fields["temperature"][:, 0]], axis=1)
    expected = np.roll(expected[:, :, ::-1], 3, axis=-1)
    np.testing.assert_array_equal(reader.read(WANTED), expected[WANTED])


@pytest.mark.parametrize(
    "encoding",
    [
        {"scale_factor": 0.01, "add_offset": 280.0, "dtype": "int16", "_FillValue": -32768},
        {"_FillValue": 1e20},
        {"dtype": "float64"},
        {"chunks": (2, 4, 6)},
    ],
)
def test_what_is_stored_otherwise_is_read_through_xarray(fields, tmp_path, encoding):
    path = write(fields[["2m_temperature"]], tmp_path / "own.zarr", **encoding)
    reader, ordinary = both_readers(path)
    assert reader is ordinary


def test_zarr_of_the_second_version_is_read_through_xarray(fields, tmp_path):
    fields.to_zarr(tmp_path / "own.zarr", zarr_format=2, consolidated=False)
    reader, ordinary = both_readers(tmp_path / "own.zarr")
    assert reader is ordinary


def test_converted_units_are_read_through_xarray(fields, tmp_path):
    ds = (fields[["2m_temperature"]] - 273.15).astype(np.float32)
    ds["2m_temperature"].attrs["units"] = "degC"
    reader, ordinary = both_readers(write(ds, tmp_path / "own.zarr"))
    assert reader is ordinary


def test_times_that_were_put_in_order_are_read_through_xarray(fields, tmp_path, caplog):
    path = write(fields.isel(time=slice(None, None, -1)), tmp_path / "own.zarr")
    with caplog.at_level(logging.INFO):
        reader, ordinary = both_readers(path)
    assert reader is ordinary
    assert "not as they are stored" in caplog.text


def test_a_link_to_bytes_elsewhere_is_refused(fields, tmp_path):
    path = write(fields[["2m_temperature"]], tmp_path / "own.zarr")
    reader, ordinary = both_readers(path)
    assert reader is not ordinary
    chunk = path / "2m_temperature" / "c" / "3" / "0" / "0"
    (tmp_path / "elsewhere").write_bytes(chunk.read_bytes())
    chunk.unlink()
    chunk.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is a link"):
        reader.read([3])


def test_a_link_to_a_pipe_is_refused_at_once(fields, tmp_path):
    path = write(fields[["2m_temperature"]], tmp_path / "own.zarr")
    reader, _ = both_readers(path)
    chunk = path / "2m_temperature" / "c" / "3" / "0" / "0"
    chunk.unlink()
    os.mkfifo(tmp_path / "pipe")
    chunk.symlink_to(tmp_path / "pipe")
    with pytest.raises(InputError, match="is a link"):
        reader.read([3])


@pytest.mark.parametrize("told", [True, False])
def test_a_link_that_stays_in_the_store_is_followed(fields, tmp_path, monkeypatch, told):
    path = write(fields[["2m_temperature"]], tmp_path / "own.zarr")
    reader, ordinary = both_readers(path)
    chunks = path / "2m_temperature" / "c"
    (chunks / "3").rename(path / "moved")
    (chunks / "3").symlink_to(path / "moved")
    if not told:  # by the system, where a descriptor leads

        def readlink(path, found=os.readlink):
            if str(path).startswith("/proc"):
                raise OSError
            return found(path)

        monkeypatch.setattr(os, "readlink", readlink)
    np.testing.assert_array_equal(reader.read([3]), ordinary.read([3]))


def test_stacked_names_become_variables_with_their_units(fields):
    ds = split_channels(stacked(fields))
    assert list(ds.data_vars) == ["temperature_500", "temperature_850", "2m_temperature"]
    assert {field.attrs["units"] for field in ds.data_vars.values()} == {"K"}
    xr.testing.assert_equal(
        ds["temperature_850"].variable, fields["temperature"].sel(level=850).variable
    )
    twice = stacked(fields).assign_coords(channel=["a", "b", "a"])
    with pytest.raises(InputError, match="'a' along channel"):
        split_channels(twice)
