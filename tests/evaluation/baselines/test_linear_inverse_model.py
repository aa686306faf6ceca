from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherdiff.data.simulator import LinearStochasticField
from weatherdiff.errors import InputError
from weatherdiff.evaluation.baselines import LinearInverseModel, SmoothClimatology, record
from weatherdiff.evaluation.baselines.linear_dynamics import LinearDynamics
from weatherdiff.evaluation.baselines.state_space import StateSpace

DAY = np.timedelta64(1, "D")
PERIOD = ("2020-01-01", "2020-10-31")
CELLS = {"latitude": [-50.0, 10.0, 30.0], "longitude": [0.0, 3.0, 9.0, 14.0]}


def days(*values: int) -> np.ndarray:
    return np.array(values, dtype="timedelta64[D]").astype("timedelta64[ns]")


def dates(start: str, count: int) -> np.ndarray:
    return (np.datetime64(start) + np.arange(count) * DAY).astype("datetime64[ns]")


def autoregression(rho: float, count: int, size: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = np.zeros((count, size))
    x[0] = rng.normal(size=size)
    for i in range(1, count):
        x[i] = rho * x[i - 1] + np.sqrt(1 - rho**2) * rng.normal(size=size)
    return x


@pytest.fixture
def analyses() -> xr.Dataset:
    """A year of two correlated variables, one on two levels, each cell red noise."""
    values = autoregression(0.8, 366, 12, seed=1).reshape(366, 3, 4)
    more = autoregression(0.6, 366, 24, seed=2).reshape(366, 2, 3, 4)
    dims = ("latitude", "longitude")
    return xr.Dataset(
        {
            "t": (("time", *dims), 280 + 3 * values, {"units": "K"}),
            "z": (("time", "level", *dims), 5e4 + 90 * (more + values[:, None]), {"units": "m"}),
        },
        {"time": dates("2020-01-01", 366), "level": [500, 850], **CELLS},
    ).astype(np.float32)


def fitted(analyses: xr.Dataset, **options) -> LinearInverseModel:
    defaults = {"period": PERIOD, "members": 4, "truncation": 6, "harmonics": (0, 0)}
    return LinearInverseModel(analyses, **{**defaults, **options})


def test_red_noise_has_its_closed_form_mean_and_spread():
    count, rho = 12_000, 0.8
    x = autoregression(rho, count, 1, seed=4)[:, 0]
    ds = xr.Dataset({"t": ("time", 10 + 2 * x)}, {"time": dates("1980-01-01", count)})
    lim = fitted(ds, period=(ds["time"].values[0], ds["time"].values[-100]), truncation=1)
    inits, leads = ds["time"].values[-90:-60], days(1, 3, 9)
    mean, spread = lim.marginals(inits, leads)
    powers = rho ** np.array([1, 3, 9])
    expected = 10 + 2 * powers * x[-90:-60, np.newaxis]
    # Sampling errors: 0.006 of rho, and 0.027 x 2 of the climatological mean.
    np.testing.assert_allclose(mean["t"].values, expected, atol=0.15)
    np.testing.assert_allclose(
        spread["t"].values, np.tile(2 * np.sqrt(1 - powers**2), (30, 1)), rtol=0.03
    )


def test_members_sample_the_marginals_and_are_right_jointly_in_lead_time():
    count, rho = 4000, 0.8
    x = autoregression(rho, count, 1, seed=4)[:, 0]
    ds = xr.Dataset({"t": ("time", x)}, {"time": dates("1980-01-01", count)})
    lim = fitted(ds, period=("1980", ds["time"].values[-100]), truncation=1, members=4000)
    inits, leads = ds["time"].values[-50:-49], days(2, 3, 7)
    mean, spread = (m["t"].values[0] for m in lim.marginals(inits, leads))
    members = lim.forecast(inits, leads)["t"].values[0]
    np.testing.assert_allclose(members.mean(axis=1), mean, atol=4 / np.sqrt(4000))
    np.testing.assert_allclose(members.std(axis=1), spread, rtol=0.05)
    # cov(y_s, y_t) = rho^(t-s) var(y_s) for s < t
    covariance = np.cov(members)
    np.testing.assert_allclose(covariance[0, 1], rho * spread[0] ** 2, rtol=0.07)
    np.testing.assert_allclose(covariance[0, 2], rho**5 * spread[0] ** 2, rtol=0.2)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 3), st.integers(0, 999))
def test_the_noise_covariance_is_what_the_propagator_leaves_and_semidefinite(
    coupled, history, red, seed
):
    rng = np.random.default_rng(seed)
    components = rng.normal(size=(60, coupled + red)).cumsum(axis=0)
    components -= components.mean(axis=0)
    sequences = np.arange(60 - history)[:, np.newaxis] + np.arange(history + 1)
    dynamics = LinearDynamics.fit(components, sequences, coupled, history)
    past = np.concatenate(
        [components[sequences[:, -2 - h], :coupled] for h in range(history)], axis=1
    )
    future = components[sequences[:, -1], :coupled]
    free = len(sequences) - coupled * history
    G, Q = dynamics.propagator, dynamics.noise_covariance
    assert np.linalg.eigvalsh(Q).min() >= -1e-10 * np.trace(Q)
    companion = np.concatenate([G, np.eye(coupled * (history - 1), coupled * history)])
    assert np.abs(np.linalg.eigvals(companion)).max() < 1
    c0, c1, past0 = future.T @ future, future.T @ past, past.T @ past
    if np.allclose(G @ past0, c1):  # not shrunk
        np.testing.assert_allclose(Q * free, c0 - G @ past0 @ G.T, atol=1e-8 * np.trace(c0))
    # The spread of the red noise grows to that of its climate, and no further.
    spread = np.sqrt(np.diagonal(dynamics.covariances(300), axis1=1, axis2=2)[:, coupled:])
    assert (np.diff(spread, axis=0) >= 0).all()
    np.testing.assert_allclose(spread[-1], dynamics.spread, rtol=0.05)


def test_a_second_order_process_is_recovered_and_its_spread_in_closed_form():
    rng = np.random.default_rng(0)
    x = np.zeros((20_000, 2))
    for i in range(2, len(x)):
        x[i] = 1.2 * x[i - 1] - 0.5 * x[i - 2] + rng.normal(size=2) * [1.0, 3.0]
    sequences = np.arange(len(x) - 2)[:, np.newaxis] + np.arange(3)
    dynamics = LinearDynamics.fit(x, sequences, 2, 2)
    np.testing.assert_allclose(
        dynamics.propagator, [[1.2, 0, -0.5, 0], [0, 1.2, 0, -0.5]], atol=0.05
    )
    # Impulse response 1, 1.2, 0.94.
    np.testing.assert_allclose(
        np.diagonal(dynamics.covariances(3), axis1=1, axis2=2),
        np.cumsum([[1.0], [1.2**2], [0.94**2]], axis=0) * [1.0, 9.0],
        rtol=0.05,
    )


@pytest.fixture(scope="module")
def simulated() -> tuple[LinearStochasticField, xr.Dataset]:
    simulator = LinearStochasticField(shape=(2, 4))
    return simulator, simulator.simulate(4600, seed=0)


def test_on_a_linear_system_it_approaches_the_true_predictive_distribution(simulated):
    simulator, ds = simulated
    times, leads = ds["time"].values, np.arange(1, 7) * simulator.step
    lim = fitted(ds, period=(times[0], times[3499]), members=10, truncation=16, history=2)
    forecast = lim.forecast(times[3501:-6:4], leads).compute()
    weights = simulator.grid.area_weights()
    best = simulator.expected_crps(6)

    def average(scores: xr.DataArray) -> xr.DataArray:
        return scores.weighted(weights).mean(("init_time", "latitude", "longitude"))

    for name in ds.data_vars:
        truth = ds[name].sel(time=forecast["valid_time"]).drop_vars("time")
        members = forecast[name]
        pairs = abs(members - members.rename(number="other")).mean(("number", "other")) * 10 / 9
        crps = average(abs(members - truth).mean("number") - pairs / 2)
        np.testing.assert_allclose(crps / best[name], 1, atol=0.05)
        variance = average(members.var("number", ddof=1))
        error = average((members.mean("number") - truth) ** 2)
        np.testing.assert_allclose(np.sqrt(11 / 10 * variance / error), 1, atol=0.05)


def test_truncation_keeps_the_climatological_variance_of_every_cell(simulated):
    simulator, ds = simulated
    times = ds["time"].values
    lim = fitted(ds, period=(times[0], times[3499]), truncation=2)
    far = lim.marginals(times[3600:3601], np.array([300 * simulator.step]))[1]
    training = ds.isel(time=slice(3500))
    for name in ds.data_vars:
        np.testing.assert_allclose(
            far[name].values[0, 0], training[name].std("time").values, rtol=0.05
        )


def test_patterns_are_those_of_a_singular_value_decomposition(analyses):
    climatology = SmoothClimatology(analyses, period=PERIOD)
    states = climatology.standardised_states(climatology.record.analyses)
    root = np.sqrt(climatology.record.weights)
    assert np.ptp(root) > 0.1
    _, values, rows = np.linalg.svd(states * root, full_matrices=False)
    exact = StateSpace.fit(climatology, 36)
    overlap = np.abs((exact.patterns[:, :5] * rows[:5].T).sum(axis=0))
    np.testing.assert_allclose(overlap, 1, atol=1e-8)
    few = StateSpace.fit(climatology, 5)
    np.testing.assert_allclose((few.components**2).sum(axis=0), values[:5] ** 2, rtol=0.01)
    np.testing.assert_allclose(exact.explained_variance(), (states**2).mean(axis=0), rtol=1e-10)


def test_nothing_but_seed_time_and_number_makes_a_member(analyses, monkeypatch):
    inits, leads = analyses["time"].values[310:330], days(1, 4)
    lim = fitted(analyses)
    whole = lim.forecast(inits, leads).compute()
    assert all(field.chunks for field in lim.forecast(inits, leads).data_vars.values())
    part = fitted(analyses, members=2).forecast(inits[5:7], days(4, 5)).compute()
    for name in analyses.data_vars:
        np.testing.assert_allclose(
            part[name].values[:, 0],
            whole[name].values[5:7, 1, :2],
            rtol=1e-6,
        )
    monkeypatch.setattr("weatherdiff.evaluation.baselines.linear_inverse_model._BLOCK_VALUES", 200)
    xr.testing.assert_allclose(lim.forecast(inits, leads), whole, rtol=1e-6)
    other = fitted(analyses, seed=1).forecast(inits, leads)
    assert abs(other["t"] - whole["t"]).min() > 0
    # No two members, initial times or leads share their noise.
    noise = whole["t"].values - whole["t"].values.mean(axis=2, keepdims=True)
    flat = noise.reshape(20 * 2 * 4, -1)
    assert np.unique(flat[:, 0]).size == len(flat)


def test_chunks_and_blocks_of_the_fit_change_nothing(analyses, monkeypatch):
    inits, leads = analyses["time"].values[310:314], days(2)
    whole = fitted(analyses).forecast(inits, leads).compute()
    monkeypatch.setattr(record, "_BLOCK_VALUES", 1000)
    lazy = fitted(analyses.chunk({"time": 70, "level": 1})).forecast(inits, leads)
    xr.testing.assert_allclose(lazy, whole, rtol=1e-5)
    assert whole["t"].dtype == np.float32
    assert whole["z"].attrs == {"units": "m"}
    assert whole["z"].dims == (
        "init_time", "lead_time", "number", "level", "latitude", "longitude",
    )  # fmt: skip


def test_a_smaller_truncation_needs_no_second_fit(analyses):
    inits, leads = analyses["time"].values[310:312], days(1, 2)
    smaller = fitted(analyses, truncation=9).truncated(3)
    for ours, theirs in zip(
        smaller.marginals(inits, leads),
        fitted(analyses, truncation=3).marginals(inits, leads),
        strict=True,
    ):
        xr.testing.assert_allclose(ours, theirs, rtol=0.02)
    with pytest.raises(ValueError, match="expected 1 to 3"):
        smaller.truncated(4)


def test_cells_never_observed_and_missing_initial_states_come_back_nan(analyses):
    holes = analyses.drop_isel(time=[312]).copy(deep=True)
    holes["t"][:, 1, 2] = np.nan
    holes["z"][40, 0, 0, 0] = np.nan  # incomplete in training
    holes["z"][313, 1, 1, 1] = np.nan  # incomplete at an initial time
    inits, leads = analyses["time"].values[310:317], days(1, 2)
    lim = fitted(holes, history=2)
    for ds in (lim.forecast(inits, leads).compute(), *lim.marginals(inits, leads)):
        assert ds["t"].isel(latitude=1, longitude=2).isnull().all()
        rest = ds["z"].isnull()
        each = rest.any([d for d in rest.dims if d != "init_time"]).values
        assert each.tolist() == [False, False, True, True, True, True, False]
        assert rest.isel(init_time=3).all()


def test_lead_times_off_the_step_and_valid_times_in_training_are_refused(analyses):
    lim = fitted(analyses, step="2D")
    inits = analyses["time"].values[310:312]
    assert lim.forecast(inits, days(2, 6))["t"].notnull().all()
    for leads in (days(2, 3), days(0)):
        with pytest.raises(InputError, match="multiples of the step 2 days"):
            lim.forecast(inits, leads)
    with pytest.raises(InputError, match="own training period"):
        lim.forecast(analyses["time"].values[290:291], days(2))


def test_a_record_too_short_for_the_truncation_is_refused(analyses):
    with pytest.raises(InputError, match="lower the truncation"):
        fitted(analyses, period=("2020-01-01", "2020-01-10"), truncation=8, history=2)
    with pytest.raises(InputError, match="one analysis"):
        fitted(analyses, period=("2020-01-01", "2020-01-01"))
