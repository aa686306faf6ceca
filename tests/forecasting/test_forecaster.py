"""A forecast is a function of model, data, seed and member, in physical units."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from weatherdiff.data.open import open_fields
from weatherdiff.errors import (
    ConfigError,
    GridMismatchError,
    InputError,
    MissingInputError,
    StorageError,
    UnitsError,
    WeatherdiffError,
)
from weatherdiff.flow import RUNGS, Objective, keyed_noise
from weatherdiff.forecasting import Forecaster
from weatherdiff.forecasting.forecaster import Sampling
from weatherdiff.sealed import SEAL, seal

INIT = "2020-01-30T06"
FP32 = Sampling(steps=2, member_block=4, precision="fp32")


def _forecast(forecaster: Forecaster, ds: xr.Dataset, **options: Any) -> xr.Dataset:
    return forecaster.forecast(
        ds, **{"init_time": INIT, "lead_time": "18h", "members": 3, "seed": 5, **options}
    )


# What is asked for


def test_a_forecast_has_canonical_dimensions_coordinates_and_units(
    forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    ds = _forecast(forecaster, small_analyses, lead_time="30h")
    assert dict(ds.sizes) == {
        "init_time": 1, "lead_time": 5, "number": 3, "latitude": 5, "longitude": 7, "level": 2,
    }  # fmt: skip
    leading = ("init_time", "lead_time", "number")
    assert ds["2m_temperature"].dims == (*leading, "latitude", "longitude")
    assert ds["geopotential"].dims == (*leading, "level", "latitude", "longitude")
    assert "orography" not in ds
    assert ds["init_time"].dtype == "datetime64[ns]"
    assert ds["lead_time"].dtype == "timedelta64[ns]"
    assert ds["valid_time"].dims == ("init_time", "lead_time")
    np.testing.assert_array_equal(
        ds["valid_time"], ds["init_time"].values[:, None] + ds["lead_time"].values
    )
    assert (ds["lead_time"] / np.timedelta64(1, "h")).values.tolist() == [6, 12, 18, 24, 30]
    assert ds["number"].values.tolist() == [0, 1, 2]
    for name in ("latitude", "longitude", "level"):
        np.testing.assert_array_equal(ds[name], small_analyses[name])
    for name, field in ds.data_vars.items():
        assert field.dtype == np.float32
        assert field.attrs["units"] == small_analyses[name].attrs["units"]
    standard_names = {
        "init_time": "forecast_reference_time",
        "lead_time": "forecast_period",
        "valid_time": "time",
        "number": "realization",
        "level": "air_pressure",
        "latitude": "latitude",
        "longitude": "longitude",
    }
    assert {n: ds[n].attrs["standard_name"] for n in standard_names} == standard_names


@pytest.mark.parametrize("members", [3, 7, 10, 25])
def test_a_member_is_bitwise_the_same_in_any_ensemble(
    forecaster: Forecaster, small_analyses: xr.Dataset, members: int
) -> None:
    one = _forecast(forecaster, small_analyses, lead_time="24h", members=1)
    many = _forecast(forecaster, small_analyses, lead_time="24h", members=members)
    assert many.sizes["number"] == members
    xr.testing.assert_identical(many.isel(number=slice(0, 1)), one)
    larger = _forecast(forecaster, small_analyses, lead_time="24h", members=members + 4)
    xr.testing.assert_identical(larger.isel(number=slice(0, members)), many)


def test_seeds_members_and_initial_times_give_different_forecasts(
    forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    def field(**options: Any) -> np.ndarray:
        ds = _forecast(forecaster, small_analyses, **options)
        return ds["geopotential"].isel(init_time=0, lead_time=0).values

    first = field()
    assert not np.isclose(first, field(seed=6), rtol=1e-6).any()
    assert not np.isclose(first[0], first[1], rtol=1e-6).any()
    assert not np.isclose(first, field(init_time="2020-01-30T12"), rtol=1e-6).any()


def test_a_forecast_leaves_and_follows_no_global_random_state(
    forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = _forecast(forecaster, small_analyses)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    xr.testing.assert_identical(_forecast(forecaster, small_analyses), first)


def test_the_member_block_changes_rounding_alone(
    forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    blocks = [
        _forecast(forecaster, small_analyses, sampling=replace(FP32, member_block=size), members=5)
        for size in (1, 4, 10)
    ]
    for other in blocks[1:]:
        xr.testing.assert_allclose(other, blocks[0], rtol=1e-4)


def test_bf16_is_close_to_fp32(forecaster: Forecaster, small_analyses: xr.Dataset) -> None:
    exact = _forecast(forecaster, small_analyses, sampling=FP32)
    fast = _forecast(forecaster, small_analyses, sampling=replace(FP32, precision="bf16"))
    assert not fast.equals(exact)
    difference = abs(fast - exact).mean()
    spread = exact.std("number").mean()
    assert all(difference[name] < 0.05 * spread[name] for name in difference)


def test_samplers_and_their_steps_differ(
    forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    heun, euler, finer = (
        _forecast(forecaster, small_analyses, sampling=sampling)["geopotential"].values
        for sampling in (FP32, replace(FP32, sampler="euler"), replace(FP32, steps=3))
    )
    assert (heun != euler).any()
    assert (heun != finer).any()


# Rollouts


def test_a_rollout_gives_the_blocks_of_the_forecast(
    forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    done: list[tuple[int, int]] = []
    blocks = list(
        forecaster.rollout(
            small_analyses,
            init_time=INIT,
            frames=7,
            members=5,
            seed=5,
            sampling=FP32,
            progress=lambda *count: done.append(count),
        )
    )
    assert [block.sizes["lead_time"] for block in blocks] == [3, 3, 1]
    assert done == [(1, 2), (2, 2)] * 3
    whole = _forecast(forecaster, small_analyses, lead_time="42h", members=5, sampling=FP32)
    xr.testing.assert_identical(xr.concat(blocks, "lead_time", data_vars="minimal"), whole)


def test_a_longer_forecast_begins_bitwise_as_a_shorter_one(
    forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    long = _forecast(forecaster, small_analyses, lead_time="42h")
    for hours in (6, 18, 24):
        short = _forecast(forecaster, small_analyses, lead_time=f"{hours}h")
        xr.testing.assert_identical(long.isel(lead_time=slice(0, hours // 6)), short)


def test_the_next_block_goes_on_from_the_last_frame_of_the_block_before(
    forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    # A network that predicts no velocity turns noise into tendencies of the noise's scale.
    for weights in forecaster.network.parameters():
        torch.nn.init.zeros_(weights)
    ds = _forecast(forecaster, small_analyses, lead_time="36h", sampling=FP32)

    normalizer, channels = forecaster.normalizer, forecaster.channels
    init = int(np.datetime64(INIT, "s").astype(int))
    at_init = small_analyses.sel(time=[INIT])
    last = normalizer.state(channels.stack(at_init).values, np.array([init]))[0]
    for number in range(3):
        state = last
        for block in range(2):
            noise = keyed_noise(
                (3, *state.shape), seed=5, init_time=init, numbers=[number], block=block
            )[0].numpy()
            change = noise * (forecaster.noise_scale * normalizer.tendency_std)[..., None, None]
            times = init + 6 * 3600 * np.arange(3 * block + 1, 3 * block + 4)
            expected = channels.unstack(
                xr.DataArray(
                    normalizer.fields(state + change, times),
                    dims=("lead_time", "channel", "latitude", "longitude"),
                )
            )
            found = ds.isel(init_time=0, number=number, lead_time=slice(3 * block, 3 * block + 3))
            for name in expected:
                np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-4)
            state = (state + change)[-1]


def test_a_rollout_checks_its_input_before_the_first_block(
    forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    with pytest.raises(InputError, match="needs 2m_temperature"):
        forecaster.rollout(
            small_analyses.drop_vars("2m_temperature"), init_time=INIT, frames=1, members=2
        )


def test_the_future_can_be_forecast_from_the_end_of_the_data(
    forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    end = small_analyses["time"].values[-1]
    ds = _forecast(forecaster, small_analyses, init_time=end)
    assert (ds["valid_time"] > end).all()
    assert ds["geopotential"].notnull().all()
    early = small_analyses.sel(time=slice(None, INIT))
    xr.testing.assert_identical(_forecast(forecaster, early), _forecast(forecaster, small_analyses))


def test_only_the_history_is_read(forecaster: Forecaster, small_analyses: xr.Dataset) -> None:
    expected = _forecast(forecaster, small_analyses)
    history = slice("2020-01-30T00", INIT)
    spoilt = small_analyses.where(
        small_analyses["time"].isin(small_analyses.sel(time=history)["time"])
    )
    xr.testing.assert_identical(
        _forecast(forecaster, spoilt.assign(orography=small_analyses["orography"])), expected
    )


def test_a_part_of_the_ensemble_is_bitwise_that_part(
    forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    whole, part = (
        next(
            forecaster.rollout(
                small_analyses, init_time=INIT, frames=3, members=members, seed=5, sampling=FP32
            )
        )
        for members in (7, range(4, 7))
    )
    xr.testing.assert_identical(part, whole.isel(number=slice(4, 7)))


# Values


def test_bounded_variables_stay_in_bounds_and_reach_them(
    forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    wild = replace(forecaster, noise_scale=4 * forecaster.noise_scale)
    flux = "surface_downwelling_shortwave_flux"
    sun = _forecast(wild, small_analyses, lead_time="36h", members=25)[flux]
    assert sun.min() == 0
    assert 0.05 < (sun == 0).mean() < 0.95


def test_masked_cells_are_missing_and_no_others(
    forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    ds = _forecast(forecaster, small_analyses, lead_time="36h")
    sea = xr.zeros_like(ds["2m_temperature"], dtype=bool)
    sea[..., 1, 2] = True
    assert (ds["2m_temperature"].isnull() == sea).all()
    assert ds.drop_vars("2m_temperature").notnull().all().to_array().all()


# Saving


def test_a_saved_model_gives_identical_forecasts(
    forecaster: Forecaster, small_analyses: xr.Dataset, tmp_path: Path
) -> None:
    expected = _forecast(forecaster, small_analyses, lead_time="24h")
    forecaster.save(tmp_path / "model")
    loaded = Forecaster.load(tmp_path / "model")
    xr.testing.assert_identical(_forecast(loaded, small_analyses, lead_time="24h"), expected)
    assert loaded.provenance == forecaster.provenance
    assert loaded.grid == forecaster.grid

    with pytest.raises(StorageError, match="exists already"):
        loaded.save(tmp_path / "model")
    loaded.save(tmp_path / "model", overwrite=True)
    xr.testing.assert_identical(
        _forecast(Forecaster.load(tmp_path / "model"), small_analyses, lead_time="24h"), expected
    )


def test_a_model_that_is_not_there_is_missing_input(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no model") as error:
        Forecaster.load(tmp_path / "model")
    assert error.value.exit_code == 66


@pytest.mark.parametrize("part", ["channels", "grid", "normalizer", "window", "forcings", "fill"])
def test_a_model_that_lacks_a_part_is_refused(
    forecaster: Forecaster, tmp_path: Path, part: str
) -> None:
    forecaster.save(tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    document = json.loads(path.read_text())
    del document[part]
    path.write_text(seal(document))
    with pytest.raises(InputError, match=f"lacks a part: '{part}'"):
        Forecaster.load(tmp_path / "model")


# The same data in other conventions


def _flipped(ds: xr.Dataset) -> xr.Dataset:
    return ds.isel(latitude=slice(None, None, -1))


def _east_of_greenwich(ds: xr.Dataset) -> xr.Dataset:
    return ds.assign_coords(longitude=ds["longitude"] % 360).sortby("longitude")


def _other_names_units_and_order(ds: xr.Dataset) -> xr.Dataset:
    celsius = (ds["2m_temperature"].astype(np.float64) - 273.15).assign_attrs(units="degC")
    hectopascal = (ds["mean_sea_level_pressure"].astype(np.float64) / 100).assign_attrs(units="hPa")
    ds = ds.assign({"2m_temperature": celsius, "mean_sea_level_pressure": hectopascal})
    names = {"2m_temperature": "t2m", "mean_sea_level_pressure": "msl", "latitude": "lat",
             "longitude": "lon", "level": "isobaricInhPa"}  # fmt: skip
    ds = ds.rename(names).transpose("lon", "lat", "isobaricInhPa", "time")
    return ds.assign_coords(isobaricInhPa=ds["isobaricInhPa"].assign_attrs(units="hPa"))


@pytest.mark.parametrize("change", [_flipped, _east_of_greenwich, _other_names_units_and_order])
def test_data_in_another_convention_give_the_identical_forecast(
    forecaster: Forecaster, small_analyses: xr.Dataset, change: Callable[[xr.Dataset], xr.Dataset]
) -> None:
    small_analyses["level"].attrs["units"] = "hPa"
    expected = _forecast(forecaster, open_fields(small_analyses))
    found = _forecast(forecaster, open_fields(change(small_analyses)))
    if change is _other_names_units_and_order:  # float32 rounds the conversion of units
        xr.testing.assert_allclose(found, expected, rtol=1e-5)
    else:
        xr.testing.assert_identical(found, expected)


@pytest.mark.parametrize("change", [_flipped, _east_of_greenwich])
def test_raw_data_in_another_order_are_refused(
    forecaster: Forecaster, small_analyses: xr.Dataset, change: Callable[[xr.Dataset], xr.Dataset]
) -> None:
    with pytest.raises(GridMismatchError, match="differs"):
        _forecast(forecaster, change(small_analyses))


# Bad input: each with its class, its exit code and a sentence that says what is wrong


def _nan(ds: xr.Dataset) -> xr.Dataset:
    ds["geopotential"].loc[{"time": "2020-01-30T00", "level": 850}][3, 4] = np.nan
    return ds


def _infinite(ds: xr.Dataset) -> xr.Dataset:
    ds["mean_sea_level_pressure"].loc[{"time": INIT}][3, 4] = np.inf
    return ds


def _negative_sun(ds: xr.Dataset) -> xr.Dataset:
    ds["surface_downwelling_shortwave_flux"].loc[{"time": INIT}][3, 4] = -80
    return ds


def _celsius_called_kelvin(ds: xr.Dataset) -> xr.Dataset:
    ds["2m_temperature"] -= 273.15
    return ds


def _hectopascal_called_pascal(ds: xr.Dataset) -> xr.Dataset:
    ds["mean_sea_level_pressure"] /= 100
    return ds


def _hectopascal(ds: xr.Dataset) -> xr.Dataset:
    ds["mean_sea_level_pressure"].attrs["units"] = "hPa"
    return ds


def _unlabelled(ds: xr.Dataset) -> xr.Dataset:
    del ds["2m_temperature"].attrs["units"]
    return ds


def _absent_variable(ds: xr.Dataset) -> xr.Dataset:
    return ds.drop_vars("2m_temperature")


def _absent_level(ds: xr.Dataset) -> xr.Dataset:
    return ds.sel(level=[500])


def _smaller_grid(ds: xr.Dataset) -> xr.Dataset:
    return ds.isel(longitude=slice(0, 5))


def _shifted_grid(ds: xr.Dataset) -> xr.Dataset:
    return ds.assign_coords(latitude=ds["latitude"] + 0.5)


def _gap(ds: xr.Dataset) -> xr.Dataset:
    return ds.sel(time=ds["time"] != np.datetime64("2020-01-30T00"))


def _other_calendar(ds: xr.Dataset) -> xr.Dataset:
    return ds.convert_calendar("noleap", use_cftime=True)


@pytest.mark.parametrize(
    ("change", "kind", "code", "sentence"),
    [
        (_nan, InputError, 65, r"missing values: geopotential_850 at 2020-01-30T00:00Z in 1 of 35"),
        (
            _infinite,
            InputError,
            65,
            r"missing values: mean_sea_level_pressure at 2020-01-30T06:00Z",
        ),
        (_negative_sun, InputError, 65, r"outside the bounds \[0"),
        (_celsius_called_kelvin, UnitsError, 65, r"looks like degC"),
        (_hectopascal_called_pascal, UnitsError, 65, r"looks like hPa"),
        (_hectopascal, UnitsError, 65, r"is in 'hPa', expected 'Pa'"),
        (_unlabelled, UnitsError, 65, r"2m_temperature has no units"),
        (_absent_variable, InputError, 65, r"needs 2m_temperature; the data have geopotential"),
        (_absent_level, InputError, 65, r"no geopotential at level 850 hPa"),
        (_smaller_grid, GridMismatchError, 65, r"longitude differs: 7 values .* against 5"),
        (_shifted_grid, GridMismatchError, 65, r"latitude differs"),
        (_gap, MissingInputError, 66, r"needs the frame of 2020-01-30T00:00Z, which is not in"),
        (_other_calendar, InputError, 65, r"no standard time coordinate"),
    ],
)
def test_bad_input_is_refused_in_a_clear_sentence(
    forecaster: Forecaster,
    small_analyses: xr.Dataset,
    change: Callable[[xr.Dataset], xr.Dataset],
    kind: type[WeatherdiffError],
    code: int,
    sentence: str,
) -> None:
    with pytest.raises(kind, match=sentence) as error:
        _forecast(forecaster, change(small_analyses))
    assert type(error.value) is kind
    assert error.value.exit_code == code
    assert "\n" not in str(error.value)


def test_units_of_an_unknown_variable_must_be_those_of_training(
    forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    channels = forecaster.channels
    name = {"surface_downwelling_shortwave_flux": "my_flux"}
    renamed = replace(
        channels,
        variables=tuple(name.get(v, v) for v in channels.variables),
        attributes={name.get(v, v): a for v, a in channels.attributes.items()},
    )
    own = replace(forecaster, channels=renamed)
    ds = small_analyses.rename(name)
    assert _forecast(own, ds)["my_flux"].attrs["units"] == "W m**-2"
    ds["my_flux"].attrs["units"] = "kW m**-2"
    with pytest.raises(UnitsError, match=r"my_flux is in 'kW m\*\*-2', the model was trained in"):
        _forecast(own, ds)


@pytest.mark.parametrize(
    "init_time", ["2019-12-20T00", "2020-01-30T03", "2031-01-01T00", "1950-06-01"]
)
def test_an_initial_time_without_its_history_is_missing_input(
    forecaster: Forecaster, small_analyses: xr.Dataset, init_time: str
) -> None:
    with pytest.raises(MissingInputError, match="needs the frame of") as error:
        _forecast(forecaster, small_analyses, init_time=init_time)
    assert error.value.exit_code == 66


def test_missing_values_in_masked_cells_are_fine(
    forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    expected = _forecast(forecaster, small_analyses)
    small_analyses["2m_temperature"][:, 1, 2] = 285.0
    xr.testing.assert_identical(_forecast(forecaster, small_analyses), expected)


def test_missing_values_become_climatology_for_a_model_trained_so(
    forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    filling = replace(forecaster, fill=True)
    ds = _forecast(filling, _nan(small_analyses))
    assert ds["geopotential"].notnull().all()
    with pytest.raises(InputError, match="missing values"):
        _forecast(filling, _infinite(small_analyses))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"lead_time": "7h"}, "7h is not a multiple of the model's step of 6 h"),
        ({"lead_time": "0h"}, "not a multiple"),
        ({"lead_time": "-6h"}, "not a multiple"),
        ({"lead_time": "NaT"}, "not a multiple"),
        ({"lead_time": "tomorrow"}, 'Not a lead time: .tomorrow.; write for example "24h"'),
        ({"members": 0}, "must be at least 1"),
        ({"init_time": "yesterday"}, 'Not a time: .yesterday.; write for example "2018-07-20T06"'),
        ({"init_time": "NaT"}, "Not a time"),
    ],
)
def test_impossible_requests_are_refused(
    forecaster: Forecaster, small_analyses: xr.Dataset, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence) as error:
        _forecast(forecaster, small_analyses, **options)
    assert error.value.exit_code == 78


def test_wider_initial_noise_gives_one_channel_a_wider_ensemble(
    forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    for weights in forecaster.network.parameters():  # noise becomes tendency, of its own scale
        torch.nn.init.zeros_(weights)
    wide = replace(FP32, noise={"geopotential_850": (3.0, 2.0)})
    plain, wider = (
        _forecast(forecaster, small_analyses, sampling=sampling).std("number").isel(init_time=0)
        for sampling in (FP32, wide)
    )
    ratio = (wider / plain)["geopotential"].mean(("latitude", "longitude"))
    np.testing.assert_allclose(ratio.sel(level=850), [3, 2.5, 2], rtol=0.01)
    np.testing.assert_allclose(ratio.sel(level=500), 1, rtol=1e-6)
    xr.testing.assert_equal(wider["2m_temperature"], plain["2m_temperature"])


def test_noise_of_an_unknown_channel_is_refused_at_the_call(
    forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    sampling = Sampling(noise={"geopotential_700": (1.0, 2.0)})
    with pytest.raises(ConfigError, match=r"no channel 'geopotential_700'.*geopotential_500"):
        forecaster.rollout(small_analyses, init_time=INIT, frames=1, members=2, sampling=sampling)


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": "rk4"},
        {"precision": "fp8"},
        {"steps": 0},
        {"member_block": 0},
        {"noise": {"a": (1.0, 0.0)}},
    ],
)
def test_impossible_sampling_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Sampling(**options)


def test_an_initial_time_may_say_its_time_zone(
    forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    expected = _forecast(forecaster, small_analyses)
    for init_time in ("2020-01-30T08:00+02:00", "2020-01-30T06Z", np.datetime64(INIT)):
        found = _forecast(forecaster, small_analyses, init_time=init_time)
        xr.testing.assert_identical(found, expected)


# Damaged files


@pytest.fixture
def source(small_analyses: xr.Dataset, tmp_path: Path) -> Path:
    """The data as a netCDF-4 file, plain and with a checksum on the chunk of each time."""
    path = tmp_path / "source.nc"
    encoding = {
        name: {"fletcher32": True, "chunksizes": (1, *field.shape[1:])}
        for name, field in small_analyses.data_vars.items()
        if "time" in field.dims
    }
    small_analyses["level"].attrs["units"] = "hPa"
    small_analyses.to_netcdf(path, engine="netcdf4", encoding=encoding)
    return path


@pytest.mark.parametrize("fraction", [0.001, 0.3, 0.6, 0.99])
def test_a_truncated_source_file_is_bad_input(
    forecaster: Forecaster, source: Path, fraction: float
) -> None:
    whole = source.read_bytes()
    source.write_bytes(whole[: int(fraction * len(whole))])
    with pytest.raises(InputError, match="truncated or damaged") as error:
        _forecast(forecaster, open_fields(source))
    assert error.value.exit_code == 65


@pytest.mark.parametrize(("time", "opens"), [(INIT, True), ("2019-12-20T00", False)])
def test_a_flipped_bit_in_the_source_is_bad_input_where_it_is_read(
    forecaster: Forecaster, small_analyses: xr.Dataset, source: Path, time: str, opens: bool
) -> None:
    content = bytearray(source.read_bytes())
    place = content.index(small_analyses["geopotential"].sel(time=time).values.tobytes())
    content[place + 9] ^= 0x10
    source.write_bytes(content)
    if opens:  # which reads the first time, to see whether the units are plausible
        _forecast(forecaster, open_fields(source), init_time="2020-01-29T06")
    with pytest.raises(
        InputError, match=r"could not be opened or read|truncated or damaged"
    ) as error:
        _forecast(forecaster, open_fields(source))
    assert error.value.exit_code == 65


def test_a_model_folder_of_the_first_version_is_flow_matching(
    forecaster: Forecaster, tmp_path: Path
) -> None:
    replace(forecaster, objective=RUNGS["edm"], history_dropout=0.2).save(tmp_path / "model")
    again = Forecaster.load(tmp_path / "model")
    assert (again.objective, again.history_dropout) == (RUNGS["edm"], 0.2)
    path = tmp_path / "model" / "model.json"
    record = json.loads(path.read_text())
    del record["objective"], record["history_dropout"]
    path.write_text(seal(record))
    with pytest.raises(InputError, match="lacks a part"):
        Forecaster.load(tmp_path / "model")
    del record[SEAL]
    path.write_text(json.dumps({**record, "version": 1}))
    old = Forecaster.load(tmp_path / "model")
    assert (old.objective, old.history_dropout) == (Objective(), 0.0)


@pytest.mark.parametrize("rung", sorted(RUNGS))
@pytest.mark.parametrize("sampler", ["churn", "ddim"])
def test_members_do_not_depend_on_their_number_for_any_rung(
    forecaster: Forecaster, small_analyses: xr.Dataset, rung: str, sampler: str
) -> None:
    model = replace(forecaster, objective=RUNGS[rung])
    few, many = (
        model.forecast(
            small_analyses, init_time=INIT, lead_time="24h", members=members, seed=1,
            sampling=replace(FP32, sampler=sampler),
        )
        for members in (2, 6)
    )  # fmt: skip
    xr.testing.assert_identical(few, many.isel(number=slice(2)))


def test_without_belief_in_the_history_it_is_forgotten(
    forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    """A sample of the climate is the same from any initial state of the same time."""
    model = replace(forecaster, history_dropout=0.1)
    other = small_analyses.copy(deep=True)
    for name in other.data_vars:
        if "time" in other[name].dims:
            other[name] = other[name] * 1.001
    free, changed, forecast = (
        model.forecast(
            data, init_time=INIT, lead_time="12h", members=2, seed=1,
            sampling=replace(FP32, guidance=weight),
        )
        for data, weight in ((small_analyses, 0.0), (other, 0.0), (small_analyses, 1.0))
    )  # fmt: skip
    name = "mean_sea_level_pressure"
    np.testing.assert_allclose(free[name], changed[name], rtol=1e-5)
    assert float(abs(free[name] - forecast[name]).max()) > 1
