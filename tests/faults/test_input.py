"""Input that is not there yet, or is not fit: the exit code says which, nothing is published."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr

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
    here = site(max_lateness="2h")
    rewrite(here, without(*times))
    code, text = runs("batch", here.config, *NOW)
    assert code == 66, text
    assert "2020-01-30T06:00Z" in text.splitlines()[-1]
    assert (here.visible, here.hidden) == ([], [])
    site(here.folder, max_lateness="2h")  # it has come
    assert runs("batch", here.config, *NOW)[0] == 0
    assert here.visible == ["2020-01-30T06.zarr"]


def test_what_has_its_input_is_published_though_another_waits(
    runs: Callable, site: Callable
) -> None:
    here = site(max_lateness="8h")
    rewrite(here, without("2020-01-30T06"))
    code, text = runs("batch", here.config, *NOW)
    assert code == 66, text
    assert here.visible == ["2020-01-30T00.zarr"]
    assert runs("batch", here.config, *NOW)[0] == 66


def test_no_file_at_all_is_waited_for(runs: Callable, site: Callable) -> None:
    here = site(max_lateness="2h")
    (here.folder / "analyses.nc").unlink()
    assert runs("batch", here.config, *NOW)[0] == 66
    assert here.visible == []


def test_a_file_that_is_cut_is_bad_input(runs: Callable, site: Callable) -> None:
    here = site(max_lateness="2h")
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
    here = site(max_lateness="2h")
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
