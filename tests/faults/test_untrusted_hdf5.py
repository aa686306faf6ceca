"""NetCDF files that reach for other files, or declare what they cannot hold, are refused."""

import ctypes
import gzip
import importlib.util
import os
import struct

import netCDF4
import numpy as np
import pytest
import xarray as xr

from weatherdiff import open_fields
from weatherdiff.data.sources import hdf5, trust
from weatherdiff.data.sources.formats import open_raw
from weatherdiff.errors import InputError

SECRET = np.linspace(281, 299, 24, dtype="f4")


def fields(values=280.0):
    return xr.Dataset(
        {"t2m": (("time", "lat", "lon"), np.full((2, 3, 4), values, "f4"), {"units": "K"})},
        {
            "time": np.array(["2001-01-01", "2001-01-02"], "datetime64[ns]"),
            "lat": [0.0, 1.0, 2.0],
            "lon": [0.0, 1.0, 2.0, 3.0],
        },
    )


class Writer:
    """What the HDF5 library can write and the netCDF library cannot."""

    def __init__(self, path):
        self.c = ctypes.CDLL(importlib.util.find_spec("netCDF4._netCDF4").origin)
        for name in ("H5Fopen", "H5Screate_simple", "H5Pcreate", "H5Dcreate2", "H5Gcreate2"):
            getattr(self.c, name).restype = ctypes.c_int64
        self.path, self.none = os.fsencode(path), ctypes.c_int64(0)

    def __enter__(self):
        self.file = ctypes.c_int64(self.c.H5Fopen(self.path, 1, self.none))
        assert self.file.value > 0
        return self

    def __exit__(self, *_):
        assert self.c.H5Fclose(self.file) >= 0

    def global_id(self, name):
        return ctypes.c_int64.in_dll(self.c, name)

    def space(self, shape):
        sizes = (ctypes.c_uint64 * len(shape))(*shape)
        return ctypes.c_int64(self.c.H5Screate_simple(len(shape), sizes, None))

    def properties(self):
        return ctypes.c_int64(self.c.H5Pcreate(self.global_id("H5P_CLS_DATASET_CREATE_ID_g")))

    def dataset(self, name, shape, properties):
        kind, space = self.global_id("H5T_NATIVE_FLOAT_g"), self.space(shape)
        made = self.c.H5Dcreate2(self.file, name, kind, space, self.none, properties, self.none)
        assert made > 0
        assert self.c.H5Dclose(ctypes.c_int64(made)) >= 0

    def external(self, name, shape, target):
        properties = self.properties()
        self.c.H5Pset_external.argtypes = [
            ctypes.c_int64, ctypes.c_char_p, ctypes.c_long, ctypes.c_uint64,
        ]  # fmt: skip
        size = 4 * int(np.prod(shape))
        assert self.c.H5Pset_external(properties.value, str(target).encode(), 0, size) >= 0
        self.dataset(name, shape, properties)

    def virtual(self, name, shape, target):
        properties = self.properties()
        space = self.space(shape)
        assert self.c.H5Pset_virtual(properties, space, str(target).encode(), b"t2m", space) >= 0
        self.dataset(name, shape, properties)

    def chunked(self, name, shape, chunk, *, deflate=False):
        properties = self.properties()
        sizes = (ctypes.c_uint64 * len(chunk))(*chunk)
        assert self.c.H5Pset_chunk(properties, len(chunk), sizes) >= 0
        if deflate:
            assert self.c.H5Pset_deflate(properties, 9) >= 0
        self.dataset(name, shape, properties)

    def external_link(self, name, target, what):
        assert (
            self.c.H5Lcreate_external(
                str(target).encode(), what, self.file, name, self.none, self.none
            )
            >= 0
        )

    def soft_link(self, name, target):
        assert self.c.H5Lcreate_soft(target, self.file, name, self.none, self.none) >= 0

    def group(self, name):
        made = self.c.H5Gcreate2(self.file, name, self.none, self.none, self.none)
        assert made > 0
        assert self.c.H5Gclose(ctypes.c_int64(made)) >= 0


@pytest.fixture
def victim(tmp_path):
    """Somebody else's file, and the bytes of it that must not come out."""
    path = tmp_path / "secret.bin"
    path.write_bytes(SECRET.tobytes())
    return path


@pytest.fixture
def innocent(tmp_path):
    path = tmp_path / "in.nc"
    fields().to_netcdf(path)
    return path


def refused(words, path):
    for engine in (None, "netcdf4", "h5netcdf"):
        with pytest.raises(InputError, match=words) as caught:
            open_fields(path, engine=engine)
        assert caught.value.exit_code == 65
        assert str(path) in str(caught.value)


def test_external_storage_that_hands_out_another_file_is_refused(innocent, victim):
    with Writer(innocent) as writer:
        writer.external(b"stolen", (2, 3, 4), victim)
    with netCDF4.Dataset(innocent) as raw:  # the danger is there: the library follows
        np.testing.assert_array_equal(raw["stolen"][:].ravel(), SECRET)
    refused(r"values of stolen are kept in other files \(external storage", innocent)


def test_a_virtual_data_set_is_refused(innocent, tmp_path):
    fields(299.0).to_netcdf(tmp_path / "other.nc")
    with Writer(innocent) as writer:
        writer.virtual(b"stolen", (2, 3, 4), tmp_path / "other.nc")
    refused(r"values of stolen are kept in other files \(virtual storage", innocent)


def test_a_link_to_another_file_is_refused(innocent, tmp_path):
    fields(299.0).to_netcdf(tmp_path / "other.nc")
    with Writer(innocent) as writer:
        writer.external_link(b"stolen", tmp_path / "other.nc", b"/t2m")
    refused("stolen is a link to another file", innocent)


def test_an_attack_inside_a_group_is_found_too(innocent, tmp_path, victim):
    with Writer(innocent) as writer:
        writer.group(b"deep")
        writer.group(b"deep/deeper")
        writer.external(b"deep/deeper/stolen", (2, 3, 4), victim)
    refused("values of deep/deeper/stolen", innocent)
    fields().to_netcdf(tmp_path / "b.nc")
    with Writer(tmp_path / "b.nc") as writer:
        writer.group(b"deep")
        writer.external_link(b"deep/stolen", "/etc/hostname", b"/")
    refused("deep/stolen is a link to another file", tmp_path / "b.nc")


@pytest.mark.parametrize("target", [b"/deep/value", b"deep/value", b"/absent/value"])
def test_a_soft_link_out_of_its_group_is_refused(innocent, target):
    with Writer(innocent) as writer:
        writer.group(b"deep")
        writer.soft_link(b"alias", target)
    refused("alias is a link out of its group", innocent)


def test_a_soft_link_within_its_group_is_fine(innocent):
    with Writer(innocent) as writer:
        writer.soft_link(b"alias", b"/lat")
        writer.soft_link(b"beside", b"t2m")
    hdf5.require_harmless([str(innocent)])


@pytest.mark.parametrize(
    ("shape", "chunk"),
    [
        ((2 * 10**6, 32, 32), (1, 32, 32)),  # eight GB in small chunks, none of them written
        ((2, 32000, 32000), (1, 100, 100)),
        ((10**12,), (1000,)),
    ],
)
def test_a_small_file_that_declares_gigabytes_is_refused(innocent, shape, chunk):
    with Writer(innocent) as writer:
        writer.chunked(b"huge", shape, chunk, deflate=True)
    assert innocent.stat().st_size < 20000
    refused(r"in\.nc: huge declares|in\.nc declares", innocent)


def test_one_chunk_beyond_memory_is_refused(innocent, monkeypatch):
    with Writer(innocent) as writer:
        writer.chunked(b"huge", (4, 4000, 4000), (4, 4000, 4000), deflate=True)
    monkeypatch.setattr(trust, "memory_available", lambda: 10**8)
    with pytest.raises(InputError, match=r"a chunk of huge declares 244\.1 MiB that must be read"):
        open_raw(str(innocent))


@pytest.mark.parametrize("complevel", [1, 9])
def test_a_constant_field_opens_however_well_it_was_compressed(tmp_path, complevel):
    shape = (30, 1000, 1000)  # 120 MB, of which 120 KB remain
    ds = xr.Dataset(
        {"t2m": (("time", "lat", "lon"), np.broadcast_to(np.float32(0), shape), {"units": "K"})},
        {
            "time": np.datetime64("2001-01-01", "ns") + np.arange(30) * np.timedelta64(1, "D"),
            "lat": np.linspace(-80, 80, 1000),
            "lon": np.linspace(0, 300, 1000),
        },
    )
    path = tmp_path / "constant.nc"
    chunks = (30, 1000, 1000) if complevel == 9 else (1, 1000, 1000)
    encoding = {"zlib": True, "complevel": complevel, "chunksizes": chunks, "shuffle": True}
    ds.to_netcdf(path, encoding={"t2m": encoding})
    assert ds.nbytes > 200 * path.stat().st_size
    assert open_raw(str(path))[0]["t2m"].shape == shape


def test_a_file_whose_later_times_are_not_written_yet_opens(tmp_path):
    with netCDF4.Dataset(tmp_path / "a.nc", "w") as nc:
        for name, size in (("time", 8760), ("lat", 60), ("lon", 90)):
            nc.createDimension(name, size)
        nc.createVariable("t2m", "f4", ("time", "lat", "lon"), chunksizes=(24, 60, 90))[:24] = 280
    (ds,) = open_raw(str(tmp_path / "a.nc"))
    assert ds["t2m"].nbytes > 100 * (tmp_path / "a.nc").stat().st_size
    assert float(ds["t2m"][0].mean()) == 280


def test_a_file_that_the_library_never_finishes_opening_is_refused(tmp_path, monkeypatch):
    """A zero for the size of an object in the global heap: HDF5 2.2 goes round for ever."""
    fields().to_netcdf(tmp_path / "a.nc")
    content = bytearray((tmp_path / "a.nc").read_bytes())
    heap = content.index(b"GCOL") + 16  # the first object, and in it its size
    (size,) = struct.unpack("<Q", content[heap + 8 : heap + 16])
    assert 0 < size < 4096
    content[heap + 8 : heap + 16] = struct.pack("<Q", 0)
    index = int.from_bytes(content[heap : heap + 2], "little")
    assert index > 0
    (tmp_path / "a.nc").write_bytes(content)
    monkeypatch.setattr(hdf5, "_SECONDS", 1)
    with pytest.raises(InputError, match=r"a\.nc is (damaged or hostile|truncated or damaged)"):
        open_raw(str(tmp_path / "a.nc"))


def test_the_file_at_fault_is_named_among_many(tmp_path, victim):
    paths = [tmp_path / f"{i}.nc" for i in range(5)]
    for i, path in enumerate(paths):
        fields().isel(time=[0]).assign_coords(
            time=np.array([f"2001-01-0{i + 1}"], "datetime64[ns]")
        ).to_netcdf(path)
    assert open_fields(paths).sizes["time"] == 5
    with Writer(paths[3]) as writer:
        writer.external(b"stolen", (2, 3, 4), victim)
    with pytest.raises(InputError, match=r"3\.nc: the values of stolen"):
        open_fields(paths)


def test_names_of_files_may_hold_anything(tmp_path, victim):
    path = tmp_path / "two\nlines é \udcff.nc"
    fields().to_netcdf(tmp_path / "a.nc")
    (tmp_path / "a.nc").rename(path)
    hdf5.require_harmless([str(path)])
    with Writer(path) as writer:
        writer.external(b"stolen", (2, 3, 4), victim)
    with pytest.raises(InputError, match="values of stolen"):
        hdf5.require_harmless([str(path)])


@pytest.mark.parametrize("form", ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"])
@pytest.mark.parametrize("engine", [None, "netcdf4", "scipy"])
def test_a_classic_file_that_declares_gigabytes_is_refused(tmp_path, form, engine):
    path = tmp_path / "a.nc"
    fields().to_netcdf(path, format=form, unlimited_dims=["time"], engine="netcdf4")
    content = bytearray(path.read_bytes())
    width = 8 if form.endswith("DATA") else 4
    for records in (10**9, 2 ** (8 * width) - 1):  # the second means: count them yourself
        content[4 : 4 + width] = records.to_bytes(width, "big")
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.nc is truncated|a\.nc does not say"):
            open_raw(str(path), engine=engine)


def test_a_pipe_in_place_of_a_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "a.nc")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        open_fields(tmp_path / "a.nc")


def test_a_compressed_classic_file_is_not_unpacked(tmp_path):
    (tmp_path / "a.nc.gz").write_bytes(gzip.compress(bytes(10**6)))
    for engine in (None, "scipy"):
        with pytest.raises(InputError, match="if it is compressed, unpack it"):
            open_raw(str(tmp_path / "a.nc.gz"), engine=engine)
