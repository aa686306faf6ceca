"""Input that is not there yet, or is not fit: the exit code says which, nothing is published."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

from weatherdiff import open_fields
from weatherdiff.forecasting import Forecaster, Sampling, open_forecasts
from weatherdiff.forecasting.manifest import read_manifest

NOW = ("--now", "2020-01-30T07")


def rewrite(here: object, change: Callable[[xr.Dataset], xr.Dataset]) -> None:
    """Change the input file."""
    path = here.folder / "analyses.nc"
    with xr.open_dataset(path) as opened:
        ds = change(opened.load())
    path.unlink()
    ds.to_netcdf(path)


def without(*times: str) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda ds: ds.drop_sel(time=np.array(times, "datetime64[ns]"))


def spoilt(value: float) -> Callable[[xr.Dataset], xr.Dataset]:
    def change(ds: xr.Dataset) -> xr.Dataset:
        ds["geopotential"].loc[{"time": "2020-01-30T06", "level": 500}] = value
        return ds

    return change


def raised(ds: xr.Dataset) -> xr.Dataset:
    heights = ds["geopotential"]
    return ds.assign(geopotential=heights.copy(data=heights.to_numpy() + 5))


@pytest.mark.parametrize(
    "times",
    [
        ["2020-01-30T06"],
        ["2020-01-30T00"],
        ["2020-01-30T00", "2020-01-30T06"],
    ],
    ids=["the last frame", "the first frame", "all frames"],
)
def test_a_frame_that_is_absent_is_waited_for(
    runs: Callable, site: Callable, times: list[str], template: object
) -> None:
    here = site(members=2, max_lateness="2h")
    rewrite(here, without(*times))
    code, text = runs("batch", here.config, *NOW)
    assert code == 66, text
    assert "2020-01-30T06:00Z" in text.splitlines()[-1]
    assert (here.visible, here.hidden) == ([], [])
    site(here.folder, members=2, max_lateness="2h")  # it has come
    assert runs("batch", here.config, *NOW)[0] == 0
    assert here.visible == ["2020-01-30T06.zarr"]


def test_what_has_its_input_is_published_though_another_waits(
    runs: Callable, site: Callable
) -> None:
    here = site(members=2, max_lateness="8h")
    rewrite(here, without("2020-01-30T06"))
    code, text = runs("batch", here.config, *NOW)
    assert code == 66, text
    assert here.visible == ["2020-01-30T00.zarr"]
    assert runs("batch", here.config, *NOW)[0] == 66


def test_no_file_at_all_is_waited_for(runs: Callable, site: Callable) -> None:
    here = site(members=2, max_lateness="2h")
    (here.folder / "analyses.nc").unlink()
    assert runs("batch", here.config, *NOW)[0] == 66
    assert here.visible == []


def test_a_file_that_is_cut_is_bad_input(runs: Callable, site: Callable) -> None:
    here = site(members=2, max_lateness="2h")
    path = here.folder / "analyses.nc"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    code, text = runs("batch", here.config, *NOW)
    assert code == 65, text
    assert "analyses.nc" in text
    assert here.visible == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_bad_input(
    runs: Callable, site: Callable, value: float
) -> None:
    here = site(members=2, max_lateness="2h")
    rewrite(here, spoilt(value))
    code, text = runs("batch", here.config, *NOW)
    assert code == 65, text
    assert "geopotential" in text
    assert (here.visible, here.hidden) == ([], [])


def test_input_that_changed_since_a_killed_run_is_not_mixed_with_what_that_has_made(
    runs: Callable, site: Callable, hashes: Callable, tmp_path: object
) -> None:
    here, other = site(max_lateness="2h"), site(max_lateness="2h")
    assert runs("batch", here.config, *NOW, "--shard", "1/2")[0] == 0
    for place in (here, other):
        rewrite(place, raised)
        code, text = runs("batch", place.config, *NOW)
        assert code == 0, text
        assert text.count('"event": "unit"') == 3
    name = "2020-01-30T06.zarr"
    assert hashes(here.forecasts / name) == hashes(other.forecasts / name)
    assert here.hidden == []


def test_a_fallback_that_is_asked_for_is_made_and_labelled(runs: Callable, site: Callable) -> None:
    """It is what the older analysis gives for the same valid times, and it stays."""
    here = site(members=2, max_lateness="2h", fallback="12h")
    rewrite(here, without("2020-01-30T06"))
    code, text = runs("batch", here.config, *NOW, "--dry-run")
    assert (code, text.strip()) == (0, "fallback  2020-01-30T06:00Z from 2020-01-30T00:00Z")
    code, text = runs("batch", here.config, *NOW)
    assert code == 0, text
    assert here.visible == ["2020-01-30T06.zarr"]
    late = open_forecasts(here.forecasts)
    assert "analysis of 2020-01-30T00:00Z" in late.attrs["fallback"]
    run = read_manifest(here.forecasts / "2020-01-30T06.zarr")[0]["run"]
    assert run["input"]["times"] == ["2020-01-29T18:00:00Z", "2020-01-30T00:00:00Z"]
    hours = late["lead_time"].values / np.timedelta64(1, "h")
    assert (late["init_time"].values == np.datetime64("2020-01-30T06")).all()
    assert hours.tolist() == [6, 12, 18, 24, 30]

    ds = open_fields(here.folder / "analyses.nc")
    model = Forecaster.load(here.folder / "run" / "model")
    options = Sampling(member_block=2, steps=1, precision="fp32")
    older = model.forecast(
        ds, init_time="2020-01-30T00", lead_time="36h", members=2, seed=0, sampling=options
    ).isel(lead_time=slice(1, None))
    for name in older.data_vars:
        np.testing.assert_array_equal(late[name].values, older[name].values)
    assert late["valid_time"].values.tolist() == older["valid_time"].values.tolist()
    assert "fallback" not in older.attrs

    site(here.folder, members=2, max_lateness="2h", fallback="12h")  # its own has come
    assert runs("batch", here.config, *NOW)[0] == 0
    assert "fallback" in open_forecasts(here.forecasts).attrs
    assert runs("verify", here.forecasts)[0] == 0


@pytest.mark.parametrize(
    "options",
    [{"fallback": "5h"}, {"fallback": "12h", "fallback_after": "2h"}],
    ids=["none is so new", "its own is waited for"],
)
def test_no_fallback_is_made_beyond_what_was_asked_for(
    runs: Callable, site: Callable, options: dict[str, str]
) -> None:
    here = site(members=2, max_lateness="2h", **options)
    rewrite(here, without("2020-01-30T06"))
    code, text = runs("batch", here.config, *NOW)
    assert code == 66, text
    assert here.visible == []
