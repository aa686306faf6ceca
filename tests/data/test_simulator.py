"""The linear field is what its closed forms say, and every simulator is reproducible."""

import numpy as np
import pytest
import xarray as xr

from weatherdiff.data.simulator import BetaPlaneChannel, LinearStochasticField, SpectralVariable
from weatherdiff.errors import ConfigError, GridMismatchError, InputError, MissingInputError
from weatherdiff.grid import Grid

T, P = "2m_temperature", "mean_sea_level_pressure"
LINEAR = LinearStochasticField(shape=(6, 16))
ODD = LinearStochasticField(
    shape=(5, 9),
    latitudes=(20.0, 70.0),
    variables=(SpectralVariable("2m_temperature", "air_temperature", "K", 280.0, 5.0, 6.0, 3.0),),
)
CHANNEL = BetaPlaneChannel(shape=(12, 24), latitudes=(20.0, 70.0))


def area_mean(ds):
    weights = Grid.from_dataset(ds).area_weights().isel(longitude=0)
    return ds.weighted(weights).mean(("latitude", "longitude"))


def verify(forecast, analysis):
    """Analysis at the valid times, (init_time, lead_time, latitude, longitude)."""
    return analysis.sel(time=forecast["valid_time"]).drop_vars(["time", "valid_time"])


def fair_crps(forecast, truth):
    """By the pairwise definition."""
    error = np.abs(forecast - truth).mean("number")
    pairs = np.abs(forecast - forecast.rename(number="other")).sum(("number", "other"))
    members = forecast.sizes["number"]
    return error - pairs / (2 * members * (members - 1))


@pytest.fixture(scope="module")
def long_run():
    return LINEAR.simulate(4000, seed=11)


# -- reproducible, well-formed: every simulator -------------------------------------------------


@pytest.mark.parametrize("simulator", [LINEAR, ODD, CHANNEL], ids=["linear", "odd", "channel"])
def test_the_same_seed_gives_the_same_bytes_whatever_the_blocks(simulator):
    whole = simulator.simulate(7, seed=3)
    again = simulator.simulate(7, seed=3)
    blocks = list(simulator.simulate_blocks(7, seed=3, block_steps=3))
    assert [block.sizes["time"] for block in blocks] == [3, 3, 1]
    joined = xr.concat(blocks, "time")
    longer = simulator.simulate(9, seed=3).isel(time=slice(7))
    for name in whole:
        for other in (again, joined, longer):
            assert other[name].values.tobytes() == whole[name].values.tobytes()
            np.testing.assert_array_equal(other["time"], whole["time"])


def test_another_seed_gives_another_run():
    assert float(np.abs(LINEAR.simulate(1, seed=3)[T] - LINEAR.simulate(1, seed=4)[T]).min()) > 0


@pytest.mark.parametrize("simulator", [LINEAR, ODD, CHANNEL], ids=["linear", "odd", "channel"])
def test_an_analysis_is_a_canonical_cf_dataset(simulator):
    ds = simulator.simulate(3, seed=0, start="1969-12-31T18")
    assert [str(time) for time in ds["time"].values.astype("datetime64[h]")] == [
        "1969-12-31T18",
        "1970-01-01T00",
        "1970-01-01T06",
    ]
    assert ds["time"].dtype == "datetime64[ns]"
    assert Grid.from_dataset(ds).shape == simulator.shape
    assert Grid.from_dataset(ds).is_periodic
    assert (np.diff(ds["latitude"]) > 0).all()
    assert simulator.latitudes[0] < ds["latitude"][0] < ds["latitude"][-1] < simulator.latitudes[1]
    for name in ds:
        assert ds[name].dims == ("time", "latitude", "longitude")
        assert ds[name].dtype == np.float32
        assert ds[name].attrs["standard_name"]
        assert ds[name].attrs["units"]


@pytest.mark.parametrize("simulator", [LINEAR, ODD, CHANNEL], ids=["linear", "odd", "channel"])
def test_a_forecast_is_a_canonical_dataset(simulator):
    analysis = simulator.simulate(5, seed=0)
    inits = analysis["time"].values[[2, 4]]
    ds = simulator.sample_predictive(analysis, init_times=inits, leads=3, members=4, seed=1)
    for name in analysis:
        assert ds[name].dims == ("init_time", "lead_time", "number", "latitude", "longitude")
        assert ds[name].shape == (2, 3, 4, *simulator.shape)
        assert ds[name].dtype == np.float32
    assert ds["lead_time"].dtype == "timedelta64[ns]"
    assert ds["lead_time"].values.astype("timedelta64[h]").astype(int).tolist() == [6, 12, 18]
    np.testing.assert_array_equal(ds["valid_time"], ds["init_time"] + ds["lead_time"])


@pytest.mark.parametrize("simulator", [LINEAR, CHANNEL], ids=["linear", "channel"])
def test_a_member_depends_on_its_number_and_init_time_alone(simulator):
    analysis = simulator.simulate(4, seed=0, start="1969-12-31T12")
    times = analysis["time"].values
    few = simulator.sample_predictive(analysis, init_times=times[3], leads=2, members=3, seed=1)
    many = simulator.sample_predictive(analysis, init_times=times[2:], leads=4, members=5, seed=1)
    many = many.isel(init_time=[1], number=slice(3), lead_time=slice(2))
    # Float32 rounding of values about 1e5: sums may be ordered otherwise in a larger batch.
    xr.testing.assert_allclose(few, many, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("simulator", [LINEAR, CHANNEL], ids=["linear", "channel"])
def test_members_and_inits_are_different_draws(simulator):
    analysis = simulator.simulate(3, seed=0).isel(time=[0, 1, 2])
    frozen = analysis.copy(deep=True)
    for name in frozen:  # the same state at two init times
        frozen[name][1:] = frozen[name].isel(time=0).values
        frozen[name][0] = frozen[name].isel(time=1).values
    ds = simulator.sample_predictive(
        frozen, init_times=frozen["time"].values[1:], leads=1, members=2, seed=1
    )
    name = next(iter(ds))
    draws = ds[name].values.reshape(4, -1)
    assert all(np.abs(draws[i] - draws[j]).max() > 0 for i in range(4) for j in range(i))


# -- the linear field against its closed forms ----------------------------------------------------


def test_predictability_falls_from_90_to_10_percent_in_6_steps_for_each_variable():
    curve = LinearStochasticField().predictability(6)
    for name in (T, P):
        assert abs(float(curve[name][0]) - 0.9) < 0.01
        assert abs(float(curve[name][-1]) - 0.1) < 0.01
        assert (np.diff(curve[name]) < -0.05).all()
        assert curve[name].attrs["units"] == "1"


def test_the_measured_curve_is_the_documented_one():
    curve = LinearStochasticField().predictability(6)
    documented = {
        T: [0.897, 0.703, 0.493, 0.314, 0.183, 0.097],
        P: [0.901, 0.708, 0.496, 0.315, 0.183, 0.096],
    }
    for name, values in documented.items():
        np.testing.assert_array_equal(curve[name].values.round(3), values)


@pytest.mark.parametrize("field", [LINEAR, ODD], ids=["default", "one variable, odd, regional"])
def test_errors_of_the_predictive_mean_have_the_closed_form_variance(field):
    analysis = field.simulate(3000, seed=12)
    inits = analysis["time"].values[1:-6:8]
    mean = field.predictive_mean(analysis, init_times=inits, leads=5)
    error = ((mean - verify(mean, analysis)) ** 2).mean(("init_time", "longitude"))
    expected = field.predictive_std(5) ** 2
    for name in mean:
        # 374 nearly independent inits, few effective cells: 5 standard errors are about 20%.
        np.testing.assert_allclose(error[name], expected[name], rtol=0.2)
        ratio = (error[name] / expected[name]).mean()
        assert abs(float(ratio) - 1) < 0.04


def test_sampled_ensembles_have_the_closed_form_mean_and_covariance(long_run):
    init = long_run["time"].values[10]
    options = {"init_times": init, "leads": 4}
    draws = LINEAR.sample_predictive(long_run, **options, members=1500, seed=2).isel(init_time=0)
    mean = LINEAR.predictive_mean(long_run, **options).isel(init_time=0)
    std = LINEAR.predictive_std(4)
    for name in (T, P):
        standard_error = std[name] / np.sqrt(1500)
        z = (draws[name].astype(float).mean("number") - mean[name]) / standard_error
        assert float(np.abs(z).max()) < 5
        ratio = draws[name].astype(float).std("number", ddof=1) / std[name]
        assert float(np.abs(ratio - 1).max()) < 5 / np.sqrt(2 * 1500)
    # Neighbouring leads are drawn jointly: their errors go together.
    first, second = (draws[T].isel(lead_time=lead, latitude=2, longitude=3) for lead in (0, 1))
    assert float(xr.corr(first, second, "number")) > 0.5


def test_variables_of_one_spectrum_correlate_as_asked_in_climate_and_forecast():
    spectrum = {"mean": 0.0, "std": 2.0, "wavenumber": 3.0, "slope": 4.0}
    variables = tuple(SpectralVariable(n, "air_temperature", "K", **spectrum) for n in "ab")
    field = LinearStochasticField(shape=(6, 16), variables=variables, correlation=-0.4)
    analysis = field.simulate(3000, seed=1)
    assert abs(float(xr.corr(analysis["a"], analysis["b"])) + 0.4) < 0.04
    ensemble = field.sample_predictive(
        analysis, init_times=analysis["time"].values[5], leads=1, members=400, seed=1
    )
    deviations = ensemble - ensemble.mean("number")
    assert abs(float(xr.corr(deviations["a"], deviations["b"])) + 0.4) < 0.04


def test_one_variable_foretells_the_other_when_coupled(long_run):
    def lagged(field):
        ds = field.simulate(3000, seed=5)
        now, later = ds[P].isel(time=slice(None, -2)), ds[T].isel(time=slice(2, None))
        return float(xr.corr(now.drop_vars("time"), later.drop_vars("time")))

    options = {"shape": (6, 16), "correlation": 0.0, "phase_speed": 0.0}
    assert abs(lagged(LinearStochasticField(**options, coupling=0.0))) < 0.04
    assert abs(lagged(LinearStochasticField(**options, coupling=0.3))) > 0.15


def test_the_climate_is_stationary_from_the_first_frame():
    std = LINEAR.climatological_std()
    runs = [LINEAR.simulate(4, seed=seed) for seed in range(400)]
    frames = xr.concat(runs, "run", join="exact").isel(time=[0, 3])
    variance = ((frames[T] - 280.0) ** 2).mean(("run", "longitude"))
    np.testing.assert_allclose(variance, np.tile(std[T] ** 2, (2, 1)), rtol=0.2)
    assert abs(float((variance / std[T] ** 2).mean()) - 1) < 0.05


def test_the_simulated_mean_and_spread_are_the_climatological_ones(long_run):
    std = LINEAR.climatological_std()
    for name, mean in ((T, 280.0), (P, 101325.0)):
        variance = ((long_run[name].astype(float) - mean) ** 2).mean(("time", "longitude"))
        np.testing.assert_allclose(variance, std[name] ** 2, rtol=0.12)
        assert abs(float(long_run[name].astype(float).mean()) - mean) < 0.1 * float(
            std[name].mean()
        )


def test_the_standard_deviation_over_the_cells_is_the_one_asked_for():
    std = LinearStochasticField(shape=(10, 24)).climatological_std()
    assert np.sqrt(float((std[T] ** 2).mean())) == pytest.approx(6.0)
    assert np.sqrt(float((std[P] ** 2).mean())) == pytest.approx(900.0)


def test_a_long_forecast_is_the_climate(long_run):
    init = long_run["time"].values[3]
    mean = LINEAR.predictive_mean(long_run, init_times=init, leads=120).isel(lead_time=-1)
    assert float(np.abs(mean[T] - 280.0).max()) < 1e-3
    std = LINEAR.predictive_std(120).isel(lead_time=-1)
    for name in (T, P):
        np.testing.assert_allclose(std[name], LINEAR.climatological_std()[name], rtol=1e-6)


def test_sampled_ensembles_score_the_expected_crps(long_run):
    inits = long_run["time"].values[1:-7:10]
    ensemble = LINEAR.sample_predictive(long_run, init_times=inits, leads=6, members=6, seed=7)
    crps = area_mean(fair_crps(ensemble, verify(ensemble, long_run))).mean("init_time")
    expected = LINEAR.expected_crps(6)
    for name in (T, P):
        np.testing.assert_allclose(crps[name], expected[name], rtol=0.04)
    assert expected[P].attrs["units"] == "Pa"


def test_rolling_longitude_commutes_with_the_forecast(long_run):
    init = long_run["time"].values[4]
    rolled = long_run.isel(time=slice(6)).roll(longitude=5)
    here = LINEAR.predictive_mean(long_run, init_times=init, leads=3).roll(longitude=5)
    there = LINEAR.predictive_mean(rolled, init_times=init, leads=3)
    xr.testing.assert_allclose(here, there, rtol=1e-9)


def test_patterns_travel_eastward_at_the_phase_speed():
    # 360 / 16 degrees a quarter day: a cell a step
    field = LinearStochasticField(shape=(6, 16), phase_speed=90.0, coupling=0.0)
    ds = field.simulate(500, seed=1)
    now, next_frame = ds[T].values[:-1] - 280, ds[T].values[1:] - 280
    similarity = [float((np.roll(now, shift, -1) * next_frame).mean()) for shift in range(16)]
    assert int(np.argmax(similarity)) == 1


def test_large_scales_remember_longer_than_small_ones():
    ds = LinearStochasticField(shape=(6, 32), phase_speed=0.0, coupling=0.0).simulate(2000, seed=1)
    waves = np.fft.rfft(ds[T].values - 280, axis=-1)
    lagged = (waves[3:] * waves[:-3].conj()).real.mean((0, 1)) / (np.abs(waves) ** 2).mean((0, 1))
    assert lagged[1] > lagged[5] + 0.05 > lagged[12] + 0.1


def test_there_is_power_at_small_scales_falling_with_wavenumber():
    ds = LinearStochasticField().simulate(50, seed=1)
    power = (np.abs(np.fft.rfft(ds[T].values - 280, axis=-1)) ** 2).mean((0, 1))
    assert power[1] > power[4] > power[10] > power[30] > 1e-4 * power[1]


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"shape": (1, 8)},
        {"shape": (4, 3)},
        {"latitudes": (30.0, -30.0)},
        {"latitudes": (-91.0, 0.0)},
        {"step_hours": 0},
        {"variables": ()},
        {"memory": 0.0},
        {"correlation": 1.0},
    ],
)
def test_an_impossible_linear_field_is_refused(options):
    with pytest.raises(ConfigError) as caught:
        LinearStochasticField(**options)
    assert caught.value.exit_code == 78


def test_counts_below_one_are_refused():
    analysis = LINEAR.simulate(3, seed=0)
    init = analysis["time"].values[-1]
    with pytest.raises(ConfigError, match="steps=0"):
        LINEAR.simulate(0, seed=0)
    with pytest.raises(ConfigError, match="block_steps=0"):
        next(LINEAR.simulate_blocks(3, seed=0, block_steps=0))
    with pytest.raises(ConfigError, match="members=0"):
        LINEAR.sample_predictive(analysis, init_times=init, leads=1, members=0, seed=0)
    with pytest.raises(ConfigError, match="leads=-1"):
        LINEAR.predictive_mean(analysis, init_times=init, leads=-1)
    with pytest.raises(ConfigError, match="leads=0"):
        LINEAR.predictive_std(0)


def test_a_forecast_without_the_frames_it_needs_is_refused():
    analysis = LINEAR.simulate(3, seed=0)
    with pytest.raises(MissingInputError, match="1999-12-31T18"):
        LINEAR.predictive_mean(analysis, init_times=analysis["time"].values[0], leads=1)


def test_a_forecast_from_other_or_missing_fields_is_refused():
    analysis = LINEAR.simulate(3, seed=0)
    options = {"init_times": analysis["time"].values[-1], "leads": 1}
    with pytest.raises(InputError, match=P):
        LINEAR.predictive_mean(analysis.drop_vars(P), **options)
    with pytest.raises(InputError, match="missing values"):
        LINEAR.predictive_mean(analysis.where(analysis["latitude"] > 0), **options)
    with pytest.raises(GridMismatchError):
        LINEAR.predictive_mean(analysis.isel(longitude=slice(8)), **options)
