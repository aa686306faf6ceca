"""Figures show the numbers they claim to show, on honest scales."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from weatherdiff.errors import DimensionError, GridMismatchError, InputError, UnitsError
from weatherdiff.evaluation.spectra import power_spectrum
from weatherdiff.plotting import (
    plot_forecast_maps,
    plot_plume,
    plot_rank_histogram,
    plot_scores,
    plot_spectrum,
)
from weatherdiff.plotting.geography import coastlines

HOUR = np.timedelta64(3_600_000_000_000, "ns")
UK_LATITUDE = np.arange(50.25, 55, 0.5)
UK_LONGITUDE = np.arange(-9.75, 4, 0.5)


def make_case(*, members=5, leads=(3, 6, 12), inits=1, units="Pa", masked=True, seed=0):
    """Forecasts and 3-hourly analyses of pressure and of geopotential on two levels."""
    rng = np.random.default_rng(seed)
    time = np.datetime64("2018-07-20", "ns") + 3 * HOUR * np.arange(24)
    init_time = time[8 : 8 + inits]
    grid = {"latitude": UK_LATITUDE, "longitude": UK_LONGITUDE}
    shape = UK_LATITUDE.size, UK_LONGITUDE.size
    sizes = inits, len(leads), members
    forecast = xr.Dataset(
        {
            "surface_pressure": (
                ("init_time", "lead_time", "number", *grid),
                rng.normal(1e5, 300, (*sizes, *shape)).astype("float32"),
                {"units": units},
            ),
            "geopotential": (
                ("init_time", "lead_time", "number", "level", *grid),
                rng.normal(5e4, 500, (*sizes, 2, *shape)).astype("float32"),
                {"units": "m**2 s**-2"},
            ),
        },
        {
            "init_time": init_time,
            "lead_time": np.array(leads) * HOUR,
            "number": np.arange(members),
            "level": [500, 850],
            **grid,
        },
    )
    observation = xr.Dataset(
        {
            "surface_pressure": (
                ("time", *grid),
                rng.normal(1e5, 300, (24, *shape)).astype("float32"),
                {"units": "Pa"},
            ),
            "geopotential": (
                ("time", "level", *grid),
                rng.normal(5e4, 500, (24, 2, *shape)).astype("float32"),
                {"units": "m**2 s**-2"},
            ),
        },
        {"time": time, "level": [500, 850], **grid},
    )
    if masked:  # a sea in the south-west
        land = xr.DataArray(np.ones(shape, bool), grid, ("latitude", "longitude"))
        land[:3, :4] = False
        forecast, observation = forecast.where(land), observation.where(land)
        for dataset in (forecast, observation):
            dataset["surface_pressure"].attrs["units"] = units
            dataset["geopotential"].attrs["units"] = "m**2 s**-2"
    return forecast, observation


@pytest.fixture(scope="module")
def pressure():
    """Forecast, observation and their maps, for tests that change none of them."""
    forecast, observation = make_case()
    return (
        forecast,
        observation,
        plot_forecast_maps(forecast, observation, variable="surface_pressure"),
    )


def make_scores(*, members=4, references=("climatology", "persistence")):
    dims = ("variable", "lead_time")
    rng = np.random.default_rng(1)
    shape = 2, 3
    data = {name: (dims, rng.uniform(50, 90, shape)) for name in ("crps", "rmse", "spread")}
    data["spread_skill_ratio"] = (dims, [[0.9, 1.0, 1.1], [0.7, 1.0, 1.3]])
    frequencies = rng.dirichlet(np.ones(members + 1), shape)
    data["rank_histogram"] = ((*dims, "rank"), frequencies)
    for name in references:
        data[f"crps_{name}"] = (dims, rng.uniform(60, 100, shape))
        data[f"crpss_{name}"] = (dims, rng.uniform(-0.2, 0.5, shape))
    coords = {
        "variable": ["surface_pressure", "geopotential_500"],
        "units": ("variable", ["Pa", "m**2 s**-2"]),
        "lead_time": np.array([3, 6, 12]) * HOUR,
        "rank": np.arange(members + 1),
    }
    return xr.Dataset(data, coords, {"members": members, "references": list(references)})


def render(figure):
    """Lay a figure out and draw each of its artists, once, without paint."""
    figure.draw_without_rendering()


def panels_of(figure, rows, columns):
    return np.array(figure.axes[: rows * columns]).reshape(rows, columns)


def mesh_of(panel):
    return next(artist for artist in panel.collections if hasattr(artist, "get_coordinates"))


def line(axes, label):
    return next(item for item in axes.get_lines() if item.get_label() == label)


# Maps


def test_maps_show_observation_members_mean_spread_and_error_in_customary_units(pressure):
    forecast, observation, figure = pressure
    members = forecast["surface_pressure"].values[0] / 100
    truth = observation["surface_pressure"].values[[9, 10, 12]] / 100
    mean = members.mean(axis=1)
    expected = [
        truth,
        members[:, 0],
        members[:, 1],
        mean,
        members.std(axis=1, ddof=1),
        mean - truth,
    ]
    panels = panels_of(figure, 3, 6)
    for row in range(3):
        for column in range(6):
            shown = np.ma.filled(mesh_of(panels[row, column]).get_array(), np.nan)
            np.testing.assert_allclose(shown, expected[column][row], atol=2e-2)
    labels = [axes.get_xlabel() for axes in figure.axes[18:]]
    assert labels == ["surface pressure [hPa]", "standard deviation [hPa]", "error [hPa]"]
    render(figure)


def test_maps_of_all_leads_share_one_scale_for_fields_one_for_spread_one_for_error(pressure):
    panels = panels_of(pressure[2], 3, 6)
    limits = [[mesh_of(panel).get_clim() for panel in row] for row in panels]
    assert limits[0] == limits[1] == limits[2]
    assert len(set(limits[0][:4])) == 1
    assert limits[0][4][0] == 0
    assert limits[0][5][0] == -limits[0][5][1]


def test_one_absurd_cell_does_not_wash_out_the_scale():
    forecast, observation = make_case(leads=(3,))
    figure = plot_forecast_maps(forecast, observation, variable="surface_pressure")
    forecast["surface_pressure"][0, 0, 0, 5, 5] = 1e9
    spoiled = plot_forecast_maps(forecast, observation, variable="surface_pressure")
    before, after = (mesh_of(drawn.axes[0]).get_clim() for drawn in (figure, spoiled))
    assert np.ptp(after) < 1.5 * np.ptp(before)


def test_maps_are_true_to_scale_at_their_middle_latitude(pressure):
    figure = pressure[2]
    panel = figure.axes[0]
    width, height = panel.get_position().size * figure.get_size_inches()
    east, north = np.ptp(panel.get_xlim()), np.ptp(panel.get_ylim())
    shrinking = np.cos(np.deg2rad(UK_LATITUDE.mean()))
    assert (height / north) / (width / east) == pytest.approx(1 / shrinking, rel=1e-6)
    assert (east, north) == pytest.approx((14.0, 5.0))


def test_masked_cells_and_missing_observations_stay_grey():
    forecast, observation = make_case(leads=(3, 6))
    observation = observation.isel(time=[*range(10), *range(11, 24)])  # without the 6 h lead
    figure = plot_forecast_maps(forecast, observation, variable="surface_pressure")
    panels = panels_of(figure, 2, 6)
    masked = [np.ma.getmaskarray(mesh_of(panel).get_array()) for panel in panels[:, 0]]
    assert masked[0][:3, :4].all()
    assert not masked[0][3:].any()
    assert masked[1].all()
    assert np.ma.getmaskarray(mesh_of(panels[1, 5]).get_array()).all()
    red, green, blue, _ = panels[0, 0].get_facecolor()
    assert red == green == blue < 1
    render(figure)


def test_the_edge_of_the_valid_cells_is_drawn_where_there_is_no_coastline(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("CARTOPY_DATA_DIR", raising=False)
    coastlines.cache_clear()
    figure = plot_forecast_maps(*make_case(leads=(3,)), variable="surface_pressure")
    segments = np.concatenate([c.get_segments() for c in figure.axes[0].collections[1:]])
    within = segments[np.abs(segments[:, 0, 0]) < 180]
    # The sea fills rows 0-2 and columns 0-3: four sides of a cell above it, three beside it.
    assert len(within) == 7
    assert {tuple(point) for segment in within for point in segment} == (
        {(x, 51.5) for x in (-10, -9.5, -9, -8.5, -8)} | {(-8, y) for y in (50, 50.5, 51, 51.5)}
    )


def test_a_stored_coastline_is_drawn_in_every_convention_of_longitude(monkeypatch, tmp_path):
    pytest.importorskip("cartopy")
    shapefile = pytest.importorskip("shapefile")
    folder = tmp_path / "shapefiles" / "natural_earth" / "physical"
    folder.mkdir(parents=True)
    with shapefile.Writer(folder / "ne_110m_coastline.shp", shapeType=shapefile.POLYLINE) as writer:
        writer.field("name", "C")
        writer.line([[[-5.0, 50.0], [-4.0, 52.0], [-3.0, 54.0]], [[1.0, 51.0], [2.0, 52.0]]])
        writer.record("two parts of one shape")
    monkeypatch.setenv("CARTOPY_DATA_DIR", str(tmp_path))
    coastlines.cache_clear()
    forecast, observation = make_case(leads=(3,))
    eastern = [data.assign_coords(longitude=UK_LONGITUDE + 360) for data in (forecast, observation)]
    try:
        for datasets, west in (((forecast, observation), -5.0), (eastern, 355.0)):
            panel = plot_forecast_maps(*datasets, variable="surface_pressure").axes[0]
            starts = [
                tuple(segment[0])
                for collection in panel.collections[1:]
                for segment in collection.get_segments()
            ]
            assert (west, 50.0) in starts
            assert len(starts) == 6  # two parts, thrice
            assert panel.get_xlim()[0] == pytest.approx(west - 5)
    finally:
        coastlines.cache_clear()


def test_a_single_member_has_an_error_but_neither_mean_nor_spread():
    case = make_case(members=1, leads=(3,))
    figure = plot_forecast_maps(*case, variable="surface_pressure")
    titles = [panel.get_title() for panel in figure.axes[:3]]
    assert titles == ["observation", "member 0", "member 0 minus obs."]
    render(figure)


def test_a_levelled_channel_is_drawn_from_its_own_level():
    forecast, observation = make_case(leads=(3,))
    figure = plot_forecast_maps(forecast, observation, variable="geopotential_850")
    shown = np.ma.filled(mesh_of(figure.axes[1]).get_array(), np.nan)
    np.testing.assert_allclose(shown, forecast["geopotential"].values[0, 0, 0, 1])
    render(figure)


def test_latitude_order_does_not_change_the_map():
    forecast, observation = make_case(leads=(3,))
    flipped = forecast.isel(latitude=slice(None, None, -1))
    maps = [
        plot_forecast_maps(data, observation, variable="surface_pressure").axes[4]
        for data in (forecast, flipped)
    ]
    first, second = (np.ma.filled(mesh_of(panel).get_array(), np.nan) for panel in maps)
    np.testing.assert_array_equal(first, second)
    assert maps[0].get_ylim() == maps[1].get_ylim()


def test_temperatures_are_in_degrees_celsius_and_their_spread_and_error_in_kelvin():
    forecast, observation = make_case(leads=(3,), masked=False)
    kelvin = {"surface_pressure": "2m_temperature"}
    case = [data[["surface_pressure"]].rename(kelvin) for data in (forecast, observation)]
    for data in case:
        data["2m_temperature"].attrs["units"] = "K"
    figure = plot_forecast_maps(*case, variable="2m_temperature")
    members = forecast["surface_pressure"].values[0, 0]
    np.testing.assert_allclose(mesh_of(figure.axes[1]).get_array(), members[0] - 273.15)
    spread = mesh_of(figure.axes[4]).get_array()
    np.testing.assert_allclose(spread, members.std(axis=0, ddof=1), rtol=1e-3)
    assert [axes.get_xlabel().split()[-1] for axes in figure.axes[6:]] == ["[°C]", "[K]", "[K]"]
    plume = plot_plume(*case, variable="2m_temperature", latitude=53.25, longitude=0.25)
    assert plume.axes[0].get_ylabel() == "[°C]"
    drawn = [item.get_ydata()[0] for item in plume.axes[0].get_lines()[:5]]
    np.testing.assert_allclose(drawn, members[:, 6, 20] - 273.15)


def test_requested_leads_are_drawn_in_their_order():
    leads = [12 * HOUR, 3 * HOUR]
    figure = plot_forecast_maps(*make_case(), variable="surface_pressure", lead_times=leads)
    rows = [panel.get_ylabel().split("\n")[0] for panel in panels_of(figure, 2, 6)[:, 0]]
    assert rows == ["+12 h", "+3 h"]


def test_a_field_without_any_range_can_be_drawn():
    forecast, observation = make_case(masked=False, leads=(3,))
    sun = "surface_downwelling_shortwave_flux"
    forecast = (0 * forecast[["surface_pressure"]]).rename(surface_pressure=sun)
    observation = (0 * observation[["surface_pressure"]]).rename(surface_pressure=sun)
    plot_forecast_maps(forecast, observation, variable=sun)
    geopotential = {sun: "geopotential"}
    figure = plot_forecast_maps(
        forecast.rename(geopotential), observation.rename(geopotential), variable="geopotential"
    )
    render(figure)


# What cannot be drawn


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda f, o: (f.drop_vars("surface_pressure"), o), InputError, "geopotential_500"),
        (lambda f, o: (f, o.drop_vars("surface_pressure")), InputError, "no channel"),
        (lambda f, o: (o, f), DimensionError, "forecast comes first"),
        (lambda f, o: (f, o.isel(longitude=slice(1, None))), GridMismatchError, "longitude"),
        (lambda f, o: (f.isel(number=0), o), DimensionError, "number"),
    ],
)
def test_data_that_cannot_be_compared_are_refused(change, error, words):
    forecast, observation = change(*make_case())
    with pytest.raises(error, match=words):
        plot_forecast_maps(forecast, observation, variable="surface_pressure")
    with pytest.raises(error, match=words):
        plot_plume(forecast, observation, variable="surface_pressure", latitude=53, longitude=0)


def test_different_units_are_refused():
    forecast, observation = make_case(masked=False, units="hPa")
    with pytest.raises(UnitsError, match="hPa but observed in Pa"):
        plot_forecast_maps(forecast, observation, variable="surface_pressure")


def test_several_init_times_are_refused_where_one_is_drawn():
    with pytest.raises(DimensionError, match="2 init times"):
        plot_forecast_maps(*make_case(inits=2), variable="surface_pressure")


@pytest.mark.parametrize("lead_times", [[5 * HOUR], []])
def test_lead_times_that_were_not_forecast_are_refused(lead_times):
    with pytest.raises(InputError, match="3, 6, 12 h"):
        plot_forecast_maps(*make_case(), variable="surface_pressure", lead_times=lead_times)


# Plumes


def ramp(forecast, members):
    """Members 0, 1, ... Pa above 1000 hPa at every lead and cell, in no order."""
    order = np.random.default_rng(2).permutation(members)
    values = 1e5 + 100.0 * xr.DataArray(order, dims="number", coords={"number": forecast.number})
    field = xr.zeros_like(forecast["surface_pressure"]) + values
    return forecast.assign(surface_pressure=field.assign_attrs(units="Pa"))


def test_plume_bands_hold_the_share_a_calibrated_ensemble_would_have():
    forecast, observation = make_case(members=19)
    figure = plot_plume(
        ramp(forecast, 19), observation, variable="surface_pressure", latitude=53, longitude=0
    )
    axes = figure.axes[0]
    bands = {
        band.get_label(): np.ptp(band.get_paths()[0].vertices[:, 1]) for band in axes.collections
    }
    # Of 19 members the lowest is the quantile 1/20, the fifth the quantile 5/20.
    assert bands == pytest.approx({"central 90%": 18.0, "central 50%": 10.0})
    np.testing.assert_allclose(line(axes, "median").get_ydata(), 1009)


@pytest.mark.parametrize(("members", "labels"), [(18, ["central 50%"]), (2, [])])
def test_bands_wider_than_the_ensemble_can_support_are_not_drawn(members, labels):
    forecast, observation = make_case(members=members)
    figure = plot_plume(
        forecast, observation, variable="surface_pressure", latitude=53, longitude=0
    )
    assert [band.get_label() for band in figure.axes[0].collections] == labels
    render(figure)


def test_plume_shows_each_member_and_the_observation_before_and_after_the_start():
    forecast, observation = make_case()
    place = {"latitude": 53.3, "longitude": -1.1}
    figure = plot_plume(forecast, observation, variable="surface_pressure", **place)
    axes = figure.axes[0]
    cell = {"latitude": 53.25, "longitude": -1.25}
    truth = line(axes, "observation")
    # Twelve hours of forecast, so six before it: 3-hourly from -6 h to +12 h.
    expected = observation["surface_pressure"].sel(cell).values[6:13] / 100
    np.testing.assert_allclose(truth.get_ydata(), expected)
    drawn = np.array([item.get_ydata() for item in axes.get_lines()[:5]])
    np.testing.assert_allclose(drawn.T, forecast["surface_pressure"].sel(cell).values[0] / 100)
    assert axes.get_title(loc="left") == (
        "Surface pressure at 53.25°N 1.25°W\nforecast from 2018-07-21 00:00 UTC"
    )
    assert axes.get_ylabel() == "[hPa]"
    render(figure)


def test_plume_finds_its_cell_in_any_convention_of_longitude():
    forecast, observation = make_case()
    titles = {
        plot_plume(
            forecast, observation, variable="surface_pressure", latitude=53, longitude=longitude
        )
        .axes[0]
        .get_title(loc="left")
        for longitude in (-2.3, 357.7)
    }
    assert len(titles) == 1


@pytest.mark.parametrize(
    ("latitude", "longitude", "words"),
    [(50.3, -9.0, "no valid value"), (60, 0, "outside"), (53, 20, "outside")],
)
def test_a_plume_at_sea_or_outside_the_grid_is_refused(latitude, longitude, words):
    with pytest.raises(InputError, match=words):
        plot_plume(
            *make_case(), variable="surface_pressure", latitude=latitude, longitude=longitude
        )


# Scores


def test_score_curves_are_the_scores_in_customary_units():
    scores = make_scores()
    figure = plot_scores(scores, variable="surface_pressure")
    crps, skill, error, ratio = figure.axes
    of_pressure = scores.isel(variable=0)
    np.testing.assert_allclose(line(crps, "ensemble").get_ydata(), of_pressure["crps"] / 100)
    for name in ("climatology", "persistence"):
        np.testing.assert_allclose(line(crps, name).get_ydata(), of_pressure[f"crps_{name}"] / 100)
        drawn = line(skill, f"against {name}").get_ydata()
        np.testing.assert_allclose(drawn, of_pressure[f"crpss_{name}"])
    np.testing.assert_allclose(
        line(error, "RMSE of the mean").get_ydata(), of_pressure["rmse"] / 100
    )
    np.testing.assert_allclose(ratio.get_lines()[-1].get_ydata(), [0.9, 1.0, 1.1])
    np.testing.assert_allclose(crps.get_lines()[0].get_xdata(), [3, 6, 12])
    assert crps.get_ylabel() == "CRPS [hPa]"
    render(figure)


def test_score_axes_hold_what_they_are_to_be_judged_by():
    crps, skill, error, ratio = plot_scores(make_scores(), variable="geopotential_500").axes
    assert crps.get_ylim()[0] == error.get_ylim()[0] == 0
    assert skill.get_ylim()[0] < 0 < skill.get_ylim()[1]
    assert ratio.get_ylim()[0] <= 0.5
    assert ratio.get_ylim()[1] >= 1.5


def test_scores_without_references_or_with_a_gap_can_be_drawn():
    scores = make_scores(references=())
    scores["crps"][0, 1] = np.nan
    figure = plot_scores(scores.drop_vars("units"), variable="surface_pressure")
    assert np.isnan(line(figure.axes[0], "ensemble").get_ydata()[1])
    render(figure)


def test_scores_of_an_unknown_variable_are_refused():
    with pytest.raises(InputError, match="surface_pressure, geopotential_500"):
        plot_scores(make_scores(), variable="geopotential")


def test_leads_of_many_days_are_counted_in_days():
    scores = make_scores()
    scores = scores.assign_coords(lead_time=scores["lead_time"] * 20)
    axes = plot_scores(scores, variable="surface_pressure").axes[0]
    assert axes.get_xlabel() == "lead time [days]"
    np.testing.assert_allclose(axes.get_lines()[0].get_xdata(), [2.5, 5, 10])


def test_rank_histogram_bars_are_the_relative_frequencies():
    scores = make_scores()
    figure = plot_rank_histogram(
        scores, variable="geopotential_500", lead_times=[3 * HOUR, 12 * HOUR]
    )
    for panel, lead in zip(figure.axes, (0, 2), strict=True):
        heights = [bar.get_height() for bar in panel.patches]
        np.testing.assert_allclose(heights, scores["rank_histogram"].values[1, lead])
        np.testing.assert_allclose(panel.get_lines()[0].get_ydata(), 1 / 5)
        assert panel.get_ylim()[0] == 0
    render(figure)


def test_the_sampling_band_is_that_of_the_binomial():
    figure = plot_rank_histogram(
        make_scores(), variable="surface_pressure", effective_sample_size=100
    )
    band = figure.axes[0].patches[-1]
    assert band.get_height() == pytest.approx(2 * 1.96 * np.sqrt(0.2 * 0.8 / 100))


def test_scores_without_ranks_have_no_rank_histogram():
    with pytest.raises(InputError, match="rank_histogram"):
        plot_rank_histogram(make_scores().drop_vars("rank_histogram"), variable="surface_pressure")


# Spectra


def test_spectra_compare_members_and_mean_with_the_observations_of_all_init_times():
    forecast, observation = make_case(masked=False, leads=(3, 6), inits=2)
    observed = observation["surface_pressure"]
    twice = [
        (1e5 + 2 * (observed.isel(time=[8 + init + 1, 8 + init + 2]) - 1e5)).values
        for init in range(2)
    ]
    members = np.repeat(np.array(twice)[:, :, None], 5, axis=2)
    forecast["surface_pressure"] = forecast["surface_pressure"].copy(data=members)
    figure = plot_spectrum(forecast, observation, variable="surface_pressure")
    ratios = figure.axes[2]
    for drawn, factor in zip(ratios.get_lines(), (1, 4, 4), strict=True):
        np.testing.assert_allclose(drawn.get_ydata(), factor, rtol=1e-3)
    powers = [power_spectrum(observed.isel(time=8 + init + 1)).values / 100**2 for init in range(2)]
    shown = line(figure.axes[0], "observation").get_ydata()
    np.testing.assert_allclose(shown, np.mean(powers, axis=0))
    render(figure)


def test_the_mean_of_unrelated_members_has_less_power_than_they():
    forecast, observation = make_case(masked=False, leads=(3,), members=10)
    top = plot_spectrum(forecast, observation, variable="geopotential_500").axes[0]
    members, mean = (line(top, name).get_ydata() for name in ("members", "ensemble mean"))
    assert np.mean(mean / members) == pytest.approx(0.1, rel=0.5)


def test_spectra_of_masked_fields_or_unobserved_times_are_refused():
    forecast, observation = make_case()
    with pytest.raises(InputError, match="missing cells"):
        plot_spectrum(forecast, observation, variable="surface_pressure")
    forecast, observation = make_case(masked=False)
    with pytest.raises(InputError, match="missing cells"):
        plot_spectrum(forecast, observation.isel(time=slice(0, 8)), variable="surface_pressure")


# Manners


def test_drawing_touches_neither_pyplot_nor_torch_and_reads_no_projection_library():
    code = f"""
import sys
sys.path[:0] = [{str(Path(__file__).parent / "plotting")!r}, {str(Path(__file__).parent)!r}]
from conftest import rich_comparison, rich_scores
from test_plotting import make_case
from weatherdiff.plotting import *
assert "matplotlib" not in sys.modules, "not lazy"
plot_forecast_maps(*make_case(leads=(3,)), variable="surface_pressure")
scores = rich_scores(leads=(6,))
plot_scorecard(rich_comparison())
plot_reliability(scores, variable="2m_temperature", event="above_p90")
plot_score_maps(scores, variable="2m_temperature")
print(*set(sys.modules).intersection(["matplotlib.pyplot", "torch", "cartopy", "pyproj"]))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""


def test_a_lazy_forecast_is_read_only_at_the_leads_drawn():
    forecast, observation = make_case(leads=(3, 6, 9, 12, 15), masked=False)
    read = []

    def note(block, block_info=None):
        if block_info:
            read.append(block_info[0]["chunk-location"][1])
        return block

    lazy = forecast[["surface_pressure"]].chunk(lead_time=1, number=-1)
    lazy["surface_pressure"].data = lazy["surface_pressure"].data.map_blocks(
        note, dtype="float32", meta=np.empty((0,) * 5, "float32")
    )
    leads = [6 * HOUR, 15 * HOUR]
    plot_forecast_maps(lazy, observation, variable="surface_pressure", lead_times=leads)
    assert sorted(read) == [1, 4]


def test_no_tick_labels_of_the_map_overlap():
    figure = plot_forecast_maps(*make_case(leads=(3,)), variable="surface_pressure")
    figure.draw_without_rendering()
    boxes = [
        tick.label1.get_window_extent()
        for panel in figure.axes[:6]
        for tick in panel.xaxis.get_major_ticks()
        if panel.get_xlim()[0] <= tick.get_loc() <= panel.get_xlim()[1]
    ]
    assert len(boxes) >= 12
    assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))
