import netCDF4
import numpy as np
import pytest

from weatherdiff.data.sources.netcdf3 import required_bytes
from weatherdiff.errors import InputError

FORMATS = ("NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA")


def write(path, form, *, unlimited, variables, records=5):
    """A file with attributes of awkward lengths and the given variables in this order."""
    with netCDF4.Dataset(path, "w", format=form) as nc:
        nc.title = "odd"
        nc.numbers = np.arange(3, dtype="i2")
        nc.createDimension("time", None if unlimited else records)
        nc.createDimension("cell", 3)
        for name, dtype, dims in variables:
            variable = nc.createVariable(name, dtype, dims)
            variable.units = "K" * len(name)
            variable[:] = np.ones([records if d == "time" else 3 for d in dims], dtype)


CASES = {
    "fixed": (False, [("a", "f8", ("time", "cell")), ("b", "f4", ("cell",))]),
    "records": (True, [("time", "f8", ("time",)), ("b", "f4", ("time", "cell")), ("c", "i2", ())]),
    "padded records": (True, [("a", "i2", ("time", "cell")), ("b", "i1", ("time", "cell"))]),
    "one short record variable": (True, [("a", "i1", ("time", "cell"))]),
    "record variable first": (True, [("a", "f4", ("time",)), ("b", "f8", ("cell",))]),
    "no variable": (True, []),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("unlimited", "variables"), CASES.values(), ids=CASES)
def test_the_header_promises_the_bytes_that_are_there(tmp_path, form, unlimited, variables):
    path = tmp_path / "field.nc"
    write(path, form, unlimited=unlimited, variables=variables)
    padding = 3
    assert path.stat().st_size - padding <= required_bytes(path) <= path.stat().st_size


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_without_records_needs_only_its_header(tmp_path, form):
    write(tmp_path / "a.nc", form, unlimited=True, variables=CASES["records"][1], records=0)
    size = (tmp_path / "a.nc").stat().st_size
    assert size - 3 <= required_bytes(tmp_path / "a.nc") <= size


@pytest.mark.parametrize("kept", [4, 30, 100, 150])
def test_a_cut_header_is_refused(tmp_path, kept):
    path = tmp_path / "field.nc"
    write(path, "NETCDF3_CLASSIC", unlimited=True, variables=CASES["records"][1])
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match="header is cut off or damaged") as caught:
        required_bytes(path)
    assert caught.value.exit_code == 65
