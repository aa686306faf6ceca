"""Forecasts guided towards observations are draws from the posterior, in physical units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

from weatherdiff.data.channels import Channels
from weatherdiff.data.normalization import Harmonics, Normalizer
from weatherdiff.data.simulator import LinearStochasticField
from weatherdiff.data.storing.transforms import BoundedTransform
from weatherdiff.data.windows import Period, WindowSpec, seconds
from weatherdiff.flow import GaussianMixture, LinearPath, keyed_noise
from weatherdiff.forecasting.forecaster import Forecaster, Sampling
from weatherdiff.forecasting.observations import LinearObservations

SIMULATOR = LinearStochasticField(shape=(4, 8), latitudes=(-60, 60))
LEADS, MEMBERS = 2, 140
STEP = SIMULATOR.step_hours * 3600
ANALYSIS = SIMULATOR.simulate(30, seed=4)
INIT = ANALYSIS["time"].values[20]
NAMES = [variable.name for variable in SIMULATOR.emitted]
SHAPE = (LEADS, len(NAMES), *SIMULATOR.shape)
SIZE = int(np.prod(SHAPE))


class Gaussian(NamedTuple):
    """Of all cells, variables and leads of a forecast, in physical units."""

    mean: np.ndarray
    covariance: np.ndarray

    def given(self, operator: np.ndarray, value: np.ndarray, error: np.ndarray) -> Gaussian:
        """Kalman's update."""
        cross = self.covariance @ operator.T
        gain = cross @ np.linalg.inv(operator @ cross + np.diag(error**2))
        mean = self.mean + gain @ (value - operator @ self.mean)
        return Gaussian(mean, self.covariance - gain @ cross.T)

    @property
    def std(self) -> np.ndarray:
        return np.sqrt(np.diag(self.covariance))


@pytest.fixture(scope="module")
def truth() -> Gaussian:
    """The simulator's predictive distribution: its mean, and its answer to each unit of noise."""
    mean = SIMULATOR.predictive_mean(ANALYSIS, init_times=INIT, leads=LEADS).to_dataarray()
    one = np.eye(SIZE).reshape(SIZE, *SHAPE)
    state = np.zeros((SIZE, 2, *SIMULATOR._noise(np.random.default_rng(0)).shape), complex)
    fields = np.empty_like(one)
    for lead in range(LEADS):
        state = SIMULATOR._advance(state, SIMULATOR._harmonics.analyse(one[:, lead]))
        fields[:, lead] = SIMULATOR._emit(state) - SIMULATOR._mean
    root = fields.reshape(SIZE, SIZE)
    found = Gaussian(mean.values[:, 0].swapaxes(0, 1).ravel(), root.T @ root)
    std = SIMULATOR.predictive_std(LEADS).to_dataarray().values.swapaxes(0, 1)
    np.testing.assert_allclose(found.std.reshape(SHAPE), np.repeat(std[..., None], 8, -1))
    return found


class Denoiser(nn.Module):
    """The exact velocity of a Gaussian, in the place of a trained network."""

    def __init__(self, mean: np.ndarray, covariance: np.ndarray) -> None:
        super().__init__()
        self.device = nn.Parameter(torch.zeros(1))
        field = GaussianMixture(torch.tensor(mean)[None], torch.tensor(covariance)[None])
        self.velocity = field.predictor(LinearPath(), "velocity")

    def forward(self, x: Tensor, tau: Tensor, condition: object) -> Tensor:
        return self.velocity(x.double().flatten(1), tau.double()).view_as(x)


@pytest.fixture(scope="module")
def model(truth: Gaussian) -> Forecaster:
    """A forecaster whose climatology turns with the day, and whose network is exact."""
    rng = np.random.default_rng(1)
    climate = rng.normal(size=(3, *SHAPE[1:])) * np.array([2.0, 300.0])[:, None, None]
    climate[0] += np.array([280.0, 101325.0])[:, None, None]
    spec = WindowSpec(history=2, frames=LEADS, step=STEP)
    normalizer = Normalizer(
        (BoundedTransform(), BoundedTransform()), Harmonics(daily=1, yearly=0),
        climate.astype(np.float32), np.array([5.0, 800.0]),
        np.array([[0.5, 0.4], [0.9, 0.8]]), STEP, Period.parse("2000-01-01", "2000-02-01"),
    )  # fmt: skip
    channels = Channels.from_dataset(ANALYSIS)
    init = int(seconds(INIT))
    last = normalizer.state(channels.stack(ANALYSIS.sel(time=[INIT])).values, np.array([init]))[0]
    # x = c + s (a + d y), so y = (x - x(0)) / (s d)
    unchanged = normalizer.fields(np.stack([last] * LEADS), init + spec.lead_times)
    scale = np.broadcast_to(
        (normalizer.std * normalizer.tendency_std)[..., None, None], SHAPE
    ).ravel()
    network = Denoiser(
        (truth.mean - unchanged.ravel()) / scale, truth.covariance / np.outer(scale, scale)
    )
    return Forecaster(
        network=network,  # type: ignore[arg-type]
        channels=channels, grid=SIMULATOR.grid, normalizer=normalizer, spec=spec, forcings=(),
        mask=np.ones(SHAPE[1:], bool), static=np.zeros((0, *SIMULATOR.shape), np.float32),
        noise_scale=np.ones(SHAPE[:2], np.float32), fill=False, provenance={},
    )  # fmt: skip


def drawn(model: Forecaster, steps: int = 60, method: str = "exact", **options: Any) -> Gaussian:
    """Mean and covariance of the affine map of noise that sampling is here, with no sampling error.

    More members than unknowns, and none left over to explain.
    """
    sampling = Sampling(steps=steps, member_block=70, precision="fp32", guidance_method=method)
    ds = model.forecast(
        ANALYSIS, init_time=INIT, lead_time=f"{LEADS * SIMULATOR.step_hours}h", members=MEMBERS,
        seed=3, sampling=sampling, **options,
    )  # fmt: skip
    fields = ds[NAMES].to_dataarray().isel(init_time=0)
    fields = fields.transpose("number", "lead_time", "variable", ...).values.reshape(MEMBERS, SIZE)
    noise = keyed_noise(SHAPE, seed=3, init_time=int(seconds(INIT)), numbers=list(range(MEMBERS)))
    design = np.column_stack([np.ones(MEMBERS), noise.numpy().reshape(MEMBERS, SIZE)])
    answer, *_ = np.linalg.lstsq(design, fields.astype(float), rcond=None)
    residual = np.abs(design @ answer - fields).reshape(MEMBERS, *SHAPE).max((0, 1, 3, 4))
    assert (residual < [1e-3, 0.2]).all()
    return Gaussian(answer[0], answer[1:].T @ answer[1:])


def table(rows: list[tuple[str, float, float, int, float, float]]) -> pd.DataFrame:
    columns = ["variable", "latitude", "longitude", "lead", "value", "error"]
    out = pd.DataFrame(rows, columns=columns)
    out["valid_time"] = INIT + out.pop("lead").to_numpy() * SIMULATOR.step
    return out


# At a cell's centre, between four cells, and across the seam of the longitudes.
POINTS = table(
    [
        ("2m_temperature", 15.0, 90.0, 1, 285.0, 0.8),
        ("mean_sea_level_pressure", -7.0, 200.0, 2, 100900.0, 120.0),
        ("2m_temperature", -45.0, 337.5, 2, 276.0, 0.5),
    ]
)


def interpolation(points: pd.DataFrame) -> np.ndarray:
    """The operator by xarray's interpolation of each cell's unit field, one column all round."""
    cells = np.eye(32).reshape(32, *SIMULATOR.shape)
    fields = xr.DataArray(
        np.concatenate([cells, cells[..., :1]], axis=-1), dims=("cell", "latitude", "longitude"),
        coords={
            "latitude": SIMULATOR.grid.latitude,
            "longitude": np.append(SIMULATOR.grid.longitude, 360),
        },
    )  # fmt: skip
    operator = np.zeros((len(points), LEADS, len(NAMES), 32))
    for k, row in points.iterrows():
        lead = int((row["valid_time"] - pd.Timestamp(INIT)) / SIMULATOR.step) - 1
        operator[k, lead, NAMES.index(row["variable"])] = fields.interp(
            latitude=row["latitude"], longitude=row["longitude"]
        )
    return operator.reshape(len(points), SIZE)


def assert_close(found: Gaussian, expected: Gaussian, prior: Gaussian, tolerance: float) -> None:
    """In units of the prior's standard deviation at each cell."""
    np.testing.assert_allclose((found.mean - expected.mean) / prior.std, 0, atol=tolerance)
    np.testing.assert_allclose((found.std - expected.std) / prior.std, 0, atol=tolerance)
    scale = np.outer(prior.std, prior.std)
    difference = (found.covariance - expected.covariance) / scale
    np.testing.assert_allclose(difference, 0, atol=tolerance)


def test_without_observations_members_have_the_true_predictive_distribution(
    model: Forecaster, truth: Gaussian
) -> None:
    assert_close(drawn(model), truth, truth, 0.01)


def test_members_have_the_kalman_mean_and_covariance_at_all_cells(
    model: Forecaster, truth: Gaussian
) -> None:
    operator = interpolation(POINTS)
    value, error = POINTS["value"].to_numpy(), POINTS["error"].to_numpy()
    expected = truth.given(operator, value, error)
    found = drawn(model, observations=POINTS)
    assert_close(found, expected, truth, 0.003)


def test_an_area_mean_gives_the_kalman_update_of_the_area(
    model: Forecaster, truth: Gaussian
) -> None:
    """The user's own operator: a mean over two leads of a box, and a difference of two cells."""
    field = xr.zeros_like(ANALYSIS["2m_temperature"].isel(time=slice(21, 23)), float)
    weights = xr.concat([field, field], "observation").rename(time="valid_time")
    weights[0, :, 1:3, 2:5] = 1 / 12
    weights[1, 1, 0, 0], weights[1, 1, 0, 4] = 1, -1
    value, error = np.array([285.0, -6.0]), np.array([0.3, 0.5])
    observations = LinearObservations(weights.to_dataset(name="2m_temperature"), value, error)
    operator = np.zeros((2, *SHAPE))
    operator[:, :, NAMES.index("2m_temperature")] = weights.values
    expected = truth.given(operator.reshape(2, SIZE), value, error)
    assert_close(drawn(model, observations=observations), expected, truth, 0.01)


def test_cheaper_corrections_are_nearer_to_the_posterior_than_none_and_not_exact(
    model: Forecaster, truth: Gaussian
) -> None:
    operator = interpolation(POINTS)
    value, error = POINTS["value"].to_numpy(), POINTS["error"].to_numpy()
    expected = truth.given(operator, value, error)

    def distance(found: Gaussian) -> float:
        return float(np.square((found.mean - expected.mean) / truth.std).mean())

    exact, isotropic, no_gradient = (
        distance(drawn(model, steps=20, method=method, observations=POINTS))
        for method in ("exact", "isotropic", "no_gradient")
    )
    assert exact < isotropic < distance(truth)
    assert exact < no_gradient < distance(truth)


@pytest.mark.parametrize("method", ["exact", "isotropic", "no_gradient"])
def test_observations_of_no_worth_leave_the_forecast_as_it_is(
    model: Forecaster, truth: Gaussian, method: str
) -> None:
    worthless = POINTS.assign(error=POINTS["error"] * 1e6)
    unguided = drawn(model, steps=4)
    found = drawn(model, steps=4, method=method, observations=worthless)
    assert_close(found, unguided, truth, 1e-4)


@pytest.mark.parametrize(
    # The isotropic covariance is not the one that its gradient implies, by some percent.
    ("method", "tolerance"), [("exact", 0.01), ("isotropic", 0.05), ("no_gradient", 0.01)],
)  # fmt: skip
def test_exact_observations_are_met_by_every_member(
    model: Forecaster, truth: Gaussian, method: str, tolerance: float
) -> None:
    exact = POINTS.assign(error=1e-4)
    found = drawn(model, steps=20, method=method, observations=exact)
    operator = interpolation(POINTS)
    std = np.sqrt(np.diag(operator @ truth.covariance @ operator.T))
    departure = (operator @ found.mean - POINTS["value"]) / std
    np.testing.assert_allclose(departure, 0, atol=tolerance)
    spread = np.sqrt(np.diag(operator @ found.covariance @ operator.T)) / std
    np.testing.assert_allclose(spread, 0, atol=tolerance)


# With a network of random weights, levels, a coast and a bounded variable


FIRST = "2020-01-30T06"
FP32 = Sampling(steps=2, member_block=4, precision="fp32")
Draw = Callable[..., xr.Dataset]


@pytest.fixture
def draw(forecaster: Forecaster, small_analyses: xr.Dataset) -> Draw:
    def run(rows: list[dict[str, Any]] | None = None, **options: Any) -> xr.Dataset:
        observations = None if rows is None else pd.DataFrame(rows)
        given: dict[str, Any] = {
            "init_time": FIRST, "lead_time": "36h", "members": 3, "seed": 5, "sampling": FP32,
            "observations": observations,
        }  # fmt: skip
        return forecaster.forecast(small_analyses, **{**given, **options})

    return run


def point(**changes: Any) -> dict[str, Any]:
    """An observation at the centre of a cell, at the second frame of the first block."""
    return {
        "variable": "geopotential", "level": 500, "latitude": 51.0, "longitude": 0.0,
        "valid_time": "2020-01-30T18:00Z", "value": 50300.0, "error": 20.0, **changes,
    }  # fmt: skip


def height(ds: xr.Dataset) -> xr.DataArray:
    at = {"level": 500, "latitude": 51.0, "longitude": 0.0}
    return ds["geopotential"].isel(init_time=0).sel(at).sel(lead_time="12h")


def test_members_are_drawn_towards_an_observation(draw: Draw) -> None:
    free, guided = height(draw()), height(draw([point()]))
    assert float(abs(guided - 50300).max()) < 0.2 * float(abs(free - 50300).min())


@pytest.mark.parametrize("method", ["exact", "isotropic", "no_gradient"])
def test_a_guided_member_is_bitwise_the_same_in_any_ensemble(draw: Draw, method: str) -> None:
    rows = [point(), point(valid_time="2020-01-31T12", value=49900.0, longitude=1.1)]
    few, many = (
        draw(rows, members=members, sampling=replace(FP32, guidance_method=method))
        for members in (1, 6)
    )
    xr.testing.assert_identical(many.isel(number=slice(0, 1)), few)


def test_observations_of_another_time_change_nothing(
    draw: Draw, caplog: pytest.LogCaptureFixture
) -> None:
    free = draw()
    assert not caplog.records
    times = ["2020-01-30T06", "2020-01-30T15", "2020-02-03T00", "2019-12-25"]
    xr.testing.assert_identical(draw([point(valid_time=time) for time in times]), free)
    assert "4 of 4 observations are at no frame of the forecast from 2020-01-30T06:00Z" in (
        caplog.records[0].getMessage()
    )


def test_an_observation_guides_its_block_and_what_goes_on_from_it(draw: Draw) -> None:
    free = draw()
    late = draw([point(valid_time="2020-01-31T12")])  # 30 h, in the second block of 18 h
    first, second = slice(0, 3), slice(3, 6)
    xr.testing.assert_identical(late.isel(lead_time=first), free.isel(lead_time=first))
    assert not late.isel(lead_time=second).equals(free.isel(lead_time=second))
    early = draw([point()])
    for block in (first, second):
        assert not early.isel(lead_time=block).equals(free.isel(lead_time=block))
    # A forecast that is cut is the beginning of a longer one, also before the observation.
    xr.testing.assert_identical(draw([point()], lead_time="6h"), early.isel(lead_time=slice(0, 1)))


def test_a_bounded_variable_is_guided_within_its_bounds(draw: Draw) -> None:
    flux = "surface_downwelling_shortwave_flux"
    at = {"latitude": 51.0, "longitude": 0.0}
    for value in (0.0, 150.0):
        rows = [point(variable=flux, level=None, value=value, error=2.0)]
        for method in ("exact", "isotropic", "no_gradient"):
            ds = draw(rows, sampling=replace(FP32, guidance_method=method))
            assert float(ds[flux].min()) >= 0
            seen = ds[flux].isel(init_time=0).sel(at).sel(lead_time="12h")
            np.testing.assert_allclose(seen, value, atol=2.0)


def test_near_the_coast_cells_with_data_alone_are_seen(draw: Draw) -> None:
    """The sea is the cell at 49.5 N, 1.5 W; half way to it the land cell has all the weight."""
    land = {"variable": "2m_temperature", "level": None, "latitude": 49.5, "value": 290.0}
    on_cell = draw([point(**land, longitude=0.0, error=0.5)])
    half_way = draw([point(**land, longitude=-0.75, error=0.5)])
    xr.testing.assert_identical(half_way, on_cell)
    sea = xr.zeros_like(on_cell["2m_temperature"], dtype=bool)
    sea[..., 1, 2] = True
    assert (on_cell["2m_temperature"].isnull() == sea).all()
