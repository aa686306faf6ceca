"""A GRIB message of a few bytes may not declare gigabytes."""

import eccodes
import numpy as np
import pytest

from weatherdiff.data.sources.formats import open_raw
from weatherdiff.errors import InputError


def constant_field(path):
    message = eccodes.codes_grib_new_from_samples("regular_ll_pl_grib2")
    for key, value in {
        "shortName": "2t", "typeOfLevel": "heightAboveGround", "level": 2, "Ni": 5, "Nj": 3,
        "latitudeOfFirstGridPointInDegrees": 45, "latitudeOfLastGridPointInDegrees": -45,
        "jDirectionIncrementInDegrees": 45, "longitudeOfFirstGridPointInDegrees": 0,
        "longitudeOfLastGridPointInDegrees": 288, "iDirectionIncrementInDegrees": 72,
    }.items():  # fmt: skip
        eccodes.codes_set(message, key, value)
    eccodes.codes_set_values(message, np.full(15, 280.0))
    with path.open("wb") as file:
        eccodes.codes_write(message, file)
    eccodes.codes_release(message)


def declare(path, columns, rows):
    """Write another size into section 3 (and 5, the number of values), and nothing else."""
    content = bytearray(path.read_bytes())
    place = 16  # after section 0
    while content[place : place + 4] != b"7777":
        if content[place + 4] == 3:
            content[place + 6 : place + 10] = (columns * rows).to_bytes(4, "big")
            content[place + 30 : place + 34] = columns.to_bytes(4, "big")
            content[place + 34 : place + 38] = rows.to_bytes(4, "big")
        if content[place + 4] == 5:
            content[place + 5 : place + 9] = (columns * rows).to_bytes(4, "big")
        place += int.from_bytes(content[place : place + 4], "big")
    path.write_bytes(content)


def test_a_constant_field_opens_and_one_of_gigabytes_is_refused(tmp_path):
    path = tmp_path / "a.grib"
    constant_field(path)
    assert open_raw(str(path))[0]["t2m"].shape == (3, 5)
    declare(path, 60000, 60000)
    assert path.stat().st_size < 1000
    with pytest.raises(InputError, match=r"a\.grib: a field declares 26\.8 GiB that must be read"):
        open_raw(str(path))
