"""Products are those of the members, however they come: stored, in lockstep, or after a stop."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import xarray as xr

from weatherdiff.data.windows import WindowSpec
from weatherdiff.errors import ConfigError, InputError
from weatherdiff.forecasting import Forecaster, open_forecasts, open_products
from weatherdiff.forecasting import products as module
from weatherdiff.forecasting.forecaster import Sampling
from weatherdiff.forecasting.lockstep import advance
from weatherdiff.forecasting.manifest import MANIFEST, read_manifest
from weatherdiff.forecasting.products import Products, Thresholds
from weatherdiff.forecasting.rollout import Key, Rollout
from weatherdiff.forecasting.work import Work
from weatherdiff.forecasting.writer import verify_forecast

INIT = "2020-01-30T06"
SAMPLING = Sampling(steps=1, member_block=2, precision="fp32")
MEMBERS, FRAMES = 5, 8


@pytest.fixture
def rollout(forecaster: Forecaster, small_analyses: xr.Dataset) -> Callable[..., Rollout]:
    """Draw members, all at once or some."""

    def make(numbers: range = range(MEMBERS)) -> Rollout:
        return forecaster.rollout(
            small_analyses, init_time=INIT, frames=FRAMES, members=numbers, sampling=SAMPLING
        )

    return make


@pytest.fixture
def ensemble(rollout: Callable) -> xr.Dataset:
    """Give the members in memory."""
    return xr.concat(list(rollout()), "lead_time", data_vars="minimal", join="exact")


@pytest.fixture
def products(ensemble: xr.Dataset) -> Products:
    """Ask for all there is, with thresholds amid the members."""
    exceedance = {}
    for name in ("geopotential", "2m_temperature"):  # which has a sea
        low, high = (float(ensemble[name].quantile(q)) for q in (0.3, 0.6))
        exceedance[name] = Thresholds(above=(low, high), below=(low,))
    exceedance["geopotential_850"] = Thresholds(above=(low,))
    return Products(mean=True, spread=True, quantiles=(0.1, 0.5, 0.9), exceedance=exceedance)


@pytest.fixture
def work(announce: Callable[..., Work], products: Products) -> Callable[..., Work]:
    """Announce members with their products."""

    def make(folder: str, **options: Any) -> Work:
        sizes = {"members": MEMBERS, "frames": FRAMES}
        return announce(folder, {"seed": 0}, **sizes, products=products, **options)

    return make


def finish(work: Work, rollout: Callable, stop: int | None = None) -> Path | None:
    """Make all of it, or stop after so many blocks of frames."""
    work.begin()
    if work.keep_members:
        for unit in work.due():
            work.put(unit, rollout(work.units[unit]))
    else:
        for unit in advance(work, rollout()):
            if unit + 1 == stop:
                return None
    return work.publish({})


def files_of(path: Path) -> dict[str, bytes]:
    names = [f for f in path.rglob("*") if f.is_file() and f.name != MANIFEST]
    return {f.relative_to(path).as_posix(): f.read_bytes() for f in names}


def expected(ensemble: xr.Dataset, products: Products) -> dict[str, xr.DataArray]:
    """Compute the products as an analyst would, from the members."""
    found = {}
    for name, field in ensemble.astype(np.float64).data_vars.items():
        found[f"{name}_mean"] = field.mean("number", skipna=False)
        found[f"{name}_spread"] = field.std("number", ddof=1, skipna=False)
        found[f"{name}_quantile"] = field.quantile(products.quantiles, "number", skipna=False)
        parts = {str(name): field}
        if "level" in field.dims:
            parts |= {
                f"{name}_{level:g}": field.sel(level=level) for level in field["level"].values
            }
        for event, part in parts.items():
            for side in ("above", "below"):
                for i, t in enumerate(getattr(products.exceedance.get(event, Thresholds()), side)):
                    inside = part > t if side == "above" else part < t
                    share = inside.mean("number").where(part.notnull().all("number"))
                    found[f"{event}_{side} {i}"] = share
    return found


def check(made: xr.Dataset, ensemble: xr.Dataset, products: Products) -> None:
    found = expected(ensemble, products)
    names = {name.split()[0] for name in found}
    assert names == set(map(str, made.data_vars))
    for name, values in found.items():
        variable, _, place = name.partition(" ")
        ours = made[variable]
        if place:
            ours = ours.isel({f"threshold_{variable}": int(place)})
        np.testing.assert_allclose(
            ours, values.transpose(*ours.dims), rtol=1e-6, atol=1e-9, err_msg=name
        )


def test_products_of_a_block_are_those_of_xarray(
    ensemble: xr.Dataset, products: Products, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = products.of(ensemble)
    check(made, ensemble, products)
    monkeypatch.setattr(module, "_CHUNK_BYTES", 1.0)  # a row at a time
    xr.testing.assert_identical(products.of(ensemble), made)


def test_products_in_lockstep_are_those_of_the_stored_members(
    work: Callable, rollout: Callable, ensemble: xr.Dataset, products: Products
) -> None:
    beside = finish(work("beside"), rollout)
    alone = finish(work("alone", keep_members=False), rollout)
    stored = open_forecasts(beside).load()
    xr.testing.assert_equal(stored, ensemble)
    for path in (beside, alone):
        verify_forecast(path)
        check(open_products(path).load(), ensemble, products)
        assert [p.name for p in path.parent.iterdir()] == [path.name]
    ours, theirs = files_of(alone / "products"), files_of(beside / "products")
    assert ours == theirs
    with pytest.raises(InputError, match="published without their members"):
        open_forecasts(alone)
    say_what_they_are(open_products(alone))
    assert "products/geopotential_mean/c/0/1/0/0/0" in read_manifest(alone)[1]
    file = alone / "products" / "geopotential_mean" / "c" / "0" / "1" / "0" / "0" / "0"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(InputError, match="products/geopotential_mean/c/0/1/0/0/0 was altered"):
        verify_forecast(alone)


def say_what_they_are(ds: xr.Dataset) -> None:
    """Look at the attributes and coordinates of products."""
    assert ds["geopotential_mean"].attrs["cell_methods"] == "realization: mean"
    assert ds["geopotential_spread"].attrs["cell_methods"] == "realization: standard_deviation"
    units = ds["geopotential_mean"].attrs["units"]
    assert ds["threshold_geopotential_above"].attrs["units"] == units
    assert ds["geopotential_above"].attrs["units"] == "1"
    assert ds["quantile"].values.tolist() == [0.1, 0.5, 0.9]
    assert ds["valid_time"].dims == ("init_time", "lead_time")
    assert "number" not in ds.dims


@pytest.mark.parametrize("stop", [2, *(pytest.param(n, marks=pytest.mark.deep) for n in (1, 3))])
def test_lockstep_goes_on_where_it_stopped_with_the_same_bytes(
    work: Callable, rollout: Callable, stop: int
) -> None:
    first = work("forecasts", keep_members=False)
    finish(first, rollout, stop)
    assert first.due() == list(range(stop, 3))
    assert len(list((first.hidden / "behind").iterdir())) == 1
    again = rollout()
    units = list(advance(first, again))
    assert units == list(range(stop, 3))
    whole = finish(work("elsewhere", keep_members=False), rollout)
    assert files_of(first.publish({})) == files_of(whole)


@pytest.mark.parametrize(
    "name",
    [
        "behind/0001.npy",
        *(pytest.param(f"units/000{n}.json", marks=pytest.mark.deep) for n in (0, 1)),
    ],
)
def test_lockstep_that_was_damaged_begins_again(
    work: Callable, rollout: Callable, name: str
) -> None:
    first = work("forecasts", keep_members=False)
    finish(first, rollout, 2)
    file = first.hidden / name
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    resumed = finish(work("forecasts", keep_members=False), rollout)
    whole = finish(work("elsewhere", keep_members=False), rollout)
    assert files_of(resumed) == files_of(whole)


@pytest.mark.deep
def test_forecasts_without_products_say_so(work: Callable, rollout: Callable) -> None:
    made = work("forecasts")
    object.__setattr__(made, "products", Products())
    with pytest.raises(InputError, match="has no products"):
        open_products(finish(made, rollout))


def test_members_in_lockstep_take_the_memory_of_one_block_of_frames() -> None:
    members, group, history, frames, shape = 40, 4, 2, 6, (3, 16, 32)

    def sampler(past: np.ndarray, *_: Any, **__: Any) -> np.ndarray:
        return np.broadcast_to(past[:, -1:], (len(past), frames, *shape))

    sampler.sampling = SimpleNamespace(member_block=group)  # type: ignore[attr-defined]
    dims = ("number", "lead_time", "channel", "latitude", "longitude")
    rollout = Rollout(
        sampler,  # type: ignore[arg-type]
        np.ones((history, *shape), np.float32),
        spec=WindowSpec(history, frames, 3600),
        key=Key(0, 0, range(members), 5 * frames),
        forcings=lambda _: np.zeros(1, np.float32),
        fields=lambda state, _: state * np.float32(2),
        dataset=lambda fields, *_: xr.Dataset({"t": (dims, fields)}, {"number": range(members)}),
        observed=[None] * 5,
    )
    next(rollout)
    tracemalloc.start()
    for block in rollout:
        del block
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    cells = int(np.prod(shape))
    assert peak < 8 * members * cells * (history + frames)
    assert peak > 4 * members * cells * frames


def test_a_threshold_of_what_is_not_forecast_is_refused(forecaster: Forecaster) -> None:
    products = Products(exceedance={"temperature_851": Thresholds(above=(1.0,))})
    with pytest.raises(ConfigError, match="no variable 'temperature_851'"):
        products.require(forecaster.layout(INIT, 2))
