"""The plan: what a scan of coordinates finds, in numbers and for people."""

import numpy as np
import pytest
import xarray as xr

from weatherdiff import open_fields
from weatherdiff.data.prepare import make_plan
from weatherdiff.data.storing.plan import Plan

SETTINGS = {"training_period": ("2020-03-01", "2020-03-08"), "step": "6h", "frames": 2}


@pytest.fixture
def own():
    """Six-hourly in Celsius, from north to south and 0 to 360, two frames absent."""
    time = np.datetime64("2020-03-01", "ns") + np.arange(40) * np.timedelta64(6, "h")
    rng = np.random.default_rng(0)
    return xr.Dataset(
        {"t2m": (("time", "lat", "lon"), rng.normal(size=(40, 4, 8)), {"units": "degC"})},
        {"time": time, "lat": [30.0, 10.0, -10.0, -30.0], "lon": np.arange(0, 360, 45.0)},
    ).isel(time=np.delete(np.arange(40), [12, 13]))


def test_a_plan_says_what_was_found(own, tmp_path):
    own.to_netcdf(tmp_path / "own.nc")
    plan = make_plan(open_fields(tmp_path / "own.nc"), **SETTINGS)
    assert plan.channels == ("2m_temperature",)
    assert plan.units == ("K",)
    assert plan.source_units == {"2m_temperature": "degC"}
    assert (plan.times, plan.step, plan.calendar) == (38, 6 * 3600, "proleptic_gregorian")
    assert (plan.duplicates, plan.absent, plan.irregular) == (0, 2, 0)
    assert plan.gaps == (("2020-03-03T18:00:00", 18 * 3600),)
    assert plan.latitude == (30.0, -30.0, 4)
    assert plan.edges[:2] == (-30.0, 30.0)
    assert plan.longitude == (0.0, 315.0, 8)
    assert plan.periodic
    text = "\n".join(plan.describe())
    for part in (
        "38, 2020-03-01T00:00:00 to 2020-03-10T18:00:00, every 6 h",
        "2 frames absent: 18 h after 2020-03-03T18:00:00",
        "4 from 30 to -30, put in order -30 to 30",
        "round the globe",
        "2m_temperature from degC are converted",
        "duplicates   none",
    ):
        assert part in text, text


def test_no_field_is_read_for_a_plan(own):
    def refuse(block):
        raise AssertionError("a field was read")

    ds = open_fields(own).isel(time=slice(20))
    lazy = ds["2m_temperature"].data.map_blocks(refuse, dtype=np.float32, meta=np.empty((0, 0, 0)))
    ds["2m_temperature"] = (ds["2m_temperature"].dims, lazy, ds["2m_temperature"].attrs)
    assert make_plan(ds, **SETTINGS).times == 20


def test_shards_are_whole_chunks_of_the_source(own, tmp_path):
    own.chunk(time=8).to_zarr(tmp_path / "own.zarr", zarr_format=3, consolidated=False)
    ds = open_fields(tmp_path / "own.zarr").assign_attrs(made="so")
    for frames, shard in ((20, 16), (6, 8), (3, 3), (8, 8)):
        plan = Plan.of(ds, {}, block_bytes=frames * 4 * 4 * 8)
        assert plan.shard == shard


def test_another_source_is_another_plan(own, tmp_path):
    file = tmp_path / "own.nc"
    own.to_netcdf(file)
    plans = [make_plan(open_fields(file).assign_attrs(a="b"), **SETTINGS) for _ in range(2)]
    assert plans[0] == plans[1]
    assert plans[0].digest == plans[1].digest
    (own + 1).assign(t2m=(own["t2m"] + 1).assign_attrs(units="degC")).to_netcdf(file)
    assert make_plan(open_fields(file), **SETTINGS).source != plans[0].source


def test_values_in_memory_are_part_of_the_plan(own):
    one = open_fields(own).load()
    one.attrs.clear()
    other = one.copy(deep=True)
    assert make_plan(one, **SETTINGS) == make_plan(other, **SETTINGS)
    other["2m_temperature"][3, 1, 2] += 1
    assert make_plan(one, **SETTINGS) != make_plan(other, **SETTINGS)
