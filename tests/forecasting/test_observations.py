"""Tables of observations, and the cells that they see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherdiff.data.storing.transforms import BoundedTransform
from weatherdiff.errors import ConfigError, DimensionError, InputError, UnitsError
from weatherdiff.flow import Objective
from weatherdiff.flow.guidance import ExactCovariance, IsotropicCovariance, NoGradient
from weatherdiff.flow.spectrum import SpectralNoise
from weatherdiff.forecasting import LinearObservations, Sampling, open_observations
from weatherdiff.forecasting.assimilation import correction, require_posterior
from weatherdiff.forecasting.footprints import bilinear, footprints
from weatherdiff.forecasting.forecaster import Forecaster
from weatherdiff.forecasting.observations import point_table
from weatherdiff.grid import Grid

TABLE = """\
station,variable,level,latitude,longitude,valid_time,value,error
Aa,2m_temperature,,50.2,-0.3,2020-01-30T18:00Z,281.4,0.5
Bb,geopotential,500,53.0,3.1,2020-01-30T20:00+02:00,50210,40
"""


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "stations.csv"
    path.write_text(TABLE)
    return path


def test_csv_netcdf_and_zarr_give_the_same_table(csv: Path, tmp_path: Path) -> None:
    table = open_observations(csv)
    assert table["valid_time"].tolist() == [pd.Timestamp("2020-01-30T18:00")] * 2
    assert table["level"].tolist()[1] == 500
    assert np.isnan(table["level"][0])
    ds = xr.Dataset.from_dataframe(table.rename_axis("observation"))
    ds.to_netcdf(tmp_path / "stations.nc")
    pd.testing.assert_frame_equal(open_observations(tmp_path / "stations.nc"), table)
    pd.testing.assert_frame_equal(point_table(ds), table)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.drop(columns=["error", "value"]), "lack value, error; found station"),
        (lambda t: t.iloc[:0], "no observations in the table"),
        (lambda t: t.assign(value="warm"), "Row 0 .* no usable value: 'warm'"),
        (lambda t: t.assign(valid_time="noon"), "Row 0 .* no usable valid_time: 'noon'"),
        (lambda t: t.assign(error=0.0), "error 0; values must be finite and errors"),
        (lambda t: t.assign(error=np.inf), "error inf"),
        (lambda t: t.assign(latitude=95.0), "beyond 90"),
    ],
)
def test_a_table_that_cannot_be_is_refused(
    csv: Path, change: Callable[[pd.DataFrame], pd.DataFrame], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        point_table(change(pd.read_csv(csv)))


def test_a_file_that_is_no_table_is_refused(csv: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("")
    with pytest.raises(InputError, match=r"x\.csv could not be opened or read: No columns"):
        open_observations(path)
    with pytest.raises(InputError, match=r"\*\.csv is 2 files; give one table"):
        open_observations(tmp_path / "*.csv")
    path.write_text("variable,value\nt,1\n")
    with pytest.raises(InputError, match=r"x\.csv: The observations lack latitude"):
        open_observations(path)


# The operator


GLOBE = Grid(np.arange(-67.5, 90, 45), np.arange(0, 360, 30))
REGION = Grid([48.0, 49.5, 51.0], [-3.0, -1.5, 0.0, 1.5])


@given(st.floats(-67.5, 67.5), st.floats(-720, 720))
@settings(max_examples=50, deadline=None)
def test_bilinear_weights_are_those_of_another_library(latitude: float, longitude: float) -> None:
    rng = np.random.default_rng(0)
    field = rng.normal(size=GLOBE.shape)
    corners = bilinear(GLOBE, np.array([latitude]), np.array([longitude]))
    found = (corners.weight * field.ravel()[corners.cell]).sum()
    round_ = xr.DataArray(
        np.column_stack([field, field[:, :1]]), dims=("y", "x"),
        coords={"y": GLOBE.latitude, "x": np.append(GLOBE.longitude, 360)},
    )  # fmt: skip
    expected = round_.interp(y=latitude, x=np.mod(longitude, 360))
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("latitude", "longitude"), [(47.2, 0), (51.8, 0), (50, -3.8), (50, 2.3), (50, 180), (-50, 0)]
)
def test_a_point_outside_the_grid_is_refused(latitude: float, longitude: float) -> None:
    with pytest.raises(InputError, match=r"outside the model's grid: latitude 48 to 51"):
        bilinear(REGION, np.array([float(latitude)]), np.array([float(longitude)]))


def test_within_the_outer_cells_their_value_is_taken() -> None:
    corners = bilinear(REGION, np.array([47.3, 51.7]), np.array([356.3, 2.2]))
    np.testing.assert_allclose(corners.weight.max(axis=1), 1)
    assert corners.cell[range(2), corners.weight.argmax(axis=1)].tolist() == [0, 11]


def rows(**changes: Any) -> pd.DataFrame:
    row = {
        "variable": "2m_temperature", "level": None, "latitude": 51.0, "longitude": 0.0,
        "valid_time": "2020-01-30T18", "value": 280.0, "error": 1.0,
    }  # fmt: skip
    return pd.DataFrame([{**row, **changes}])


@pytest.mark.parametrize(
    ("changes", "kind", "sentence"),
    [
        ({"variable": "t2m"}, InputError, "is of t2m, which the model has not; it has 2m_temp"),
        ({"variable": "geopotential"}, InputError, "geopotential, which the model has not"),
        ({"variable": "geopotential", "level": 700}, InputError, "geopotential at 700 hPa"),
        ({"latitude": 20.0}, InputError, "20 N, 0 E is outside"),
        ({"latitude": 49.5, "longitude": -1.5}, InputError, "where the model has no data"),
        ({"units": "m"}, UnitsError, "cannot be turned into K"),
    ],
)
def test_what_the_model_has_not_cannot_be_observed(
    forecaster: Forecaster, changes: dict[str, Any], kind: type[InputError], sentence: str
) -> None:
    own = {"channels": forecaster.channels, "grid": forecaster.grid, "mask": forecaster.mask}
    with pytest.raises(kind, match=sentence):
        footprints(rows(**changes), **own)


def test_values_in_other_units_are_converted_with_their_errors(forecaster: Forecaster) -> None:
    own = {"channels": forecaster.channels, "grid": forecaster.grid, "mask": forecaster.mask}
    pressure = {"variable": "mean_sea_level_pressure", "units": "hPa"}
    seen = footprints(rows(value=1013.0, error=2.0, **pressure), **own)
    assert (seen.value[0], seen.error[0]) == (101300, 200)
    seen = footprints(rows(value=7.0, error=2.0, units="degC"), **own)
    assert (seen.value[0], seen.error[0]) == (280.15, 2)


# A user's own operator


def weights(forecaster: Forecaster, **times: Any) -> xr.Dataset:
    time = times.get("valid_time", ["2020-01-30T18"])
    box = xr.DataArray(
        np.zeros((1, len(time), *forecaster.grid.shape)),
        dims=("observation", "valid_time", "latitude", "longitude"),
        coords={
            "valid_time": np.array(time, "datetime64[ns]"),
            "latitude": forecaster.grid.latitude, "longitude": forecaster.grid.longitude,
        },
    )  # fmt: skip
    box[..., 2:4, 3:5] = 0.25 / len(time)
    return box.to_dataset(name="surface_downwelling_shortwave_flux")


def test_an_operator_that_cannot_be_is_refused(
    forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    box = weights(forecaster)
    with pytest.raises(DimensionError, match="lack observation"):
        LinearObservations(box.isel(observation=0), [1.0], [1.0])
    with pytest.raises(DimensionError, match="weights of 1 observations, 2 values and 1 errors"):
        LinearObservations(box, [1.0, 2.0], [1.0])
    with pytest.raises(InputError, match="finite and positive"):
        LinearObservations(box, [1.0], [-1.0])

    def forecast(given: LinearObservations) -> None:
        forecaster.rollout(
            small_analyses, init_time="2020-01-30T06", frames=6, members=1, observations=given
        )

    forecast(LinearObservations(box, [100.0], [5.0]))  # a mean of a bounded variable
    with pytest.raises(InputError, match="sum or difference of a bounded variable"):
        forecast(LinearObservations(2 * box, [200.0], [5.0]))
    with pytest.raises(InputError, match=r"outside the bounds \[0"):
        forecast(LinearObservations(box, [-100.0], [5.0]))
    with pytest.raises(InputError, match="All weights of observation 0 are zero"):
        forecast(LinearObservations(0 * box, [100.0], [5.0]))
    several = weights(forecaster, valid_time=["2020-01-31T00", "2020-01-31T06"])
    with pytest.raises(InputError, match="frames of several blocks"):
        forecast(LinearObservations(several, [100.0], [5.0]))
    everywhere = xr.ones_like(box).rename(surface_downwelling_shortwave_flux="2m_temperature")
    with pytest.raises(InputError, match="not zero where the model has no data"):
        forecast(LinearObservations(everywhere, [100.0], [5.0]))


# Errors of bounded variables, corrections, and what cannot be combined


@pytest.mark.parametrize(
    "transform",
    [
        BoundedTransform(),
        BoundedTransform(lower=0.0, scale=2.0),
        BoundedTransform(upper=9.0, scale=2.0),
        BoundedTransform(lower=0.0, upper=10.0, scale=3.0),
    ],
)
def test_errors_are_propagated_to_first_order_and_never_vanish(transform: BoundedTransform) -> None:
    x, step = 4.0, 1e-5
    slope = np.diff(transform.forward(np.array([x - step, x + step])))[0] / (2 * step)
    np.testing.assert_allclose(transform.deviation(x, 1e-3), abs(slope) * 1e-3, rtol=1e-4)
    bound = transform.lower if transform.lower is not None else transform.upper or 0.0
    for value in (bound, x):
        assert 0 < transform.deviation(value, 1e-6) < 1e-3
        assert transform.deviation(value, 1e9) >= 1e8


def test_few_observations_are_corrected_exactly_and_many_cheaply() -> None:
    few, many, large = (
        correction("auto", observations=count, size=size)
        for count, size in ((16, 10_000), (17, 10_000), (16, 2**21))
    )
    assert isinstance(few, ExactCovariance)
    assert isinstance(many, IsotropicCovariance)
    assert isinstance(large, IsotropicCovariance)
    assert isinstance(correction("no_gradient", observations=1, size=1), NoGradient)


def test_what_has_no_posterior_is_refused() -> None:
    coloured = Objective(noise=SpectralNoise((0.0, 1.0), (0.0, 1.0)))
    with pytest.raises(ConfigError, match="needs a model with white noise"):
        require_posterior(coloured, Sampling())
    with pytest.raises(ConfigError, match=r"guidance is 0\.5: with observations it can be 1"):
        require_posterior(Objective(), Sampling(guidance=0.5))
    with pytest.raises(ConfigError, match=r"Unknown guidance method 'kalman'"):
        Sampling(guidance_method="kalman")
    require_posterior(Objective(), Sampling(guidance=0))
