"""Pictures of parts, scales, maps, spectra and regions show the stored numbers."""

import numpy as np
import pytest

from weatherdiff.errors import InputError
from weatherdiff.plotting import (
    plot_crps_by_scale,
    plot_crps_parts,
    plot_joint_scores,
    plot_power,
    plot_rank_histogram,
    plot_score_maps,
    plot_scores,
    plot_scores_by,
)

PRESSURE = "mean_sea_level_pressure"
REGIONS = ("all", "tropics", "northern_extratropics")


def line(axes, label):
    return next(item for item in axes.get_lines() if item.get_label() == label)


# Parts


def test_the_crps_is_the_coloured_distance_less_the_hatched_dispersion(rich_scores, render):
    scores = rich_scores()
    figure = plot_crps_parts(scores, variable=PRESSURE)
    here = scores.sel(variable=PRESSURE) / 100  # hPa
    fills = figure.axes[0].collections
    tops = [fill.get_datalim(figure.axes[0].transData).y1 for fill in fills]
    over, under, crps = (here[name].values for name in ("over", "under", "crps"))
    np.testing.assert_allclose(tops, [over.max(), (over + under).max(), (over + under).max()])
    np.testing.assert_allclose(line(figure.axes[0], "CRPS").get_ydata(), crps)
    reliability = line(figure.axes[1], "reliability (0 if calibrated)").get_ydata()
    np.testing.assert_allclose(reliability, here["crps_reliability"])
    render(figure)


def test_parts_without_a_decomposition_are_one_panel_and_without_parts_none(rich_scores):
    scores = rich_scores()
    plain = scores[["crps", "over", "under"]]
    assert len(plot_crps_parts(plain, variable=PRESSURE).axes) == 1
    with pytest.raises(InputError, match="parts of the CRPS"):
        plot_crps_parts(plain.drop_vars("over"), variable=PRESSURE)


def test_scales_and_whole_fields_are_drawn_with_their_references(rich_scores, render):
    scores = rich_scores(leads=(6, 24))
    figure = plot_crps_by_scale(scores, variable=PRESSURE)
    here = scores.sel(variable=PRESSURE).isel(lead_time=1)
    crps, reference = here["crps_by_scale"], here["crps_by_scale_climatology"]
    np.testing.assert_allclose(line(figure.axes[0], "+24 h").get_ydata(), crps / 100)
    np.testing.assert_allclose(figure.axes[1].get_lines()[1].get_ydata(), 1 - crps / reference)
    assert figure.axes[0].get_xlabel() == "scale [km]"
    render(figure)

    figure = plot_joint_scores(scores, variable=PRESSURE)
    energy, skill, variogram = figure.axes
    here = scores.sel(variable=PRESSURE)
    np.testing.assert_allclose(line(energy, "ensemble").get_ydata(), here["energy_score"] / 100)
    against = line(skill, "climatology").get_ydata()
    np.testing.assert_allclose(against, here["energy_skill_climatology"])
    # Its unit is not the variable's.
    np.testing.assert_allclose(line(variogram, "ensemble").get_ydata(), here["variogram_score"])
    render(figure)

    for draw in (plot_crps_by_scale, plot_joint_scores):
        with pytest.raises(InputError, match="the scores"):
            draw(scores[["crps"]], variable=PRESSURE)


# Maps


def maps_of(figure, leads, columns):
    panels = np.array(figure.axes[: leads * columns]).reshape(leads, columns)
    return [
        [
            np.ma.filled(np.ma.masked_invalid(panel.collections[0].get_array()), np.nan)
            for panel in r
        ]
        for r in panels
    ]


@pytest.mark.parametrize(("estimator", "share"), [("fair", 1.0), ("standard", 0.9)])
def test_maps_are_means_over_the_weights_and_grey_without(rich_scores, estimator, share):
    scores = rich_scores(leads=(6, 24)).assign_attrs(estimator=estimator)
    figure = plot_score_maps(scores, variable=PRESSURE)
    crps, against_climatology, _, bias, ratio = maps_of(figure, 2, 5)[1]
    here = scores.sel(variable=PRESSURE).isel(lead_time=1)
    weight = here["map_weight"].values
    land = weight > 0
    mean = {
        name: here[f"map_{name}"].values[land] / weight[land]
        for name in ("over", "under", "dispersion", "error", "squared_error", "variance")
    }
    expected = mean["over"] + mean["under"] - share * mean["dispersion"]
    np.testing.assert_allclose(crps[land], expected / 100)
    reference = here["map_crps_climatology"].values[land] / weight[land]
    np.testing.assert_allclose(against_climatology[land], 1 - expected / reference)
    np.testing.assert_allclose(bias[land], mean["error"] / 100)
    np.testing.assert_allclose(ratio[land], np.sqrt(1.1 * mean["variance"] / mean["squared_error"]))
    for field in (crps, against_climatology, bias, ratio):
        assert np.isnan(field[~land]).all()


def test_the_order_of_latitude_does_not_change_a_score_map(rich_scores):
    scores = rich_scores(leads=(6,))
    flipped = scores.isel(latitude=slice(None, None, -1))
    first, second = (
        maps_of(plot_score_maps(ds, variable=PRESSURE), 1, 5)[0][0] for ds in (scores, flipped)
    )
    np.testing.assert_array_equal(first, second)


def test_maps_show_what_there_is_and_are_refused_without_any(rich_scores, render):
    scores = rich_scores(leads=(6,))
    fewer = scores.drop_vars([name for name in scores if "map_crps" in name or "map_e" in name])
    figure = plot_score_maps(fewer, variable=PRESSURE)
    titles = [panel.get_title() for panel in figure.axes if panel.get_title()]
    assert titles == ["CRPS", "spread-skill ratio"]
    render(figure)
    with pytest.raises(InputError, match="no maps"):
        plot_score_maps(scores.drop_vars("map_weight"), variable=PRESSURE)


# Spectra


def test_stored_spectra_and_their_ratio_are_drawn(rich_scores, render):
    scores = rich_scores(leads=(6, 24))
    figure = plot_power(scores, variable=PRESSURE)
    here = scores.sel(variable=PRESSURE).isel(lead_time=0)
    np.testing.assert_allclose(
        line(figure.axes[0], "members").get_ydata(), here["power_members"] / 1e4
    )
    ratio = figure.axes[2].get_lines()[2].get_ydata()
    np.testing.assert_allclose(ratio, here["power_mean"] / here["power_observation"])
    render(figure)


def test_spectra_that_are_not_there_are_refused(rich_scores):
    scores = rich_scores(leads=(6,))
    with pytest.raises(InputError, match="no spectra"):
        plot_power(scores.drop_vars("power_mean"), variable=PRESSURE)
    for name in ("power_members", "power_mean", "power_observation"):
        scores[name] = scores[name].where(scores["variable"] != PRESSURE)
    with pytest.raises(InputError, match=f"no spectra of {PRESSURE}"):
        plot_power(scores, variable=PRESSURE)


# Regions and seasons


def test_a_named_region_is_drawn_and_the_first_one_unless_named(rich_scores):
    scores = rich_scores(regions=REGIONS, leads=(6, 12))
    for draw in (plot_scores, plot_crps_parts, plot_rank_histogram):
        figure = draw(scores, variable=PRESSURE, region="tropics")
        alone = draw(scores.sel(region="tropics"), variable=PRESSURE)
        assert "tropics" in figure.get_suptitle()
        for ours, theirs in zip(figure.axes[0].get_lines(), alone.axes[0].get_lines(), strict=True):
            np.testing.assert_array_equal(ours.get_xydata(), theirs.get_xydata())
    assert ", all" in plot_scores(scores, variable=PRESSURE).get_suptitle()
    with pytest.raises(InputError, match="northern_extratropics"):
        plot_scores(scores, variable=PRESSURE, region="mars")


def test_a_season_without_forecasts_is_not_taken_nor_drawn(rich_scores, render):
    scores = rich_scores(seasons=("DJF", "MAM", "JJA"))
    empty = [name for name in scores if "season" in scores[name].dims]
    scores[empty] = scores[empty].where(scores["season"] != "DJF")
    assert "season MAM" in plot_scores(scores, variable=PRESSURE).get_suptitle()
    figure = plot_scores_by(scores, variable=PRESSURE, by="season")
    crps = figure.axes[0].get_lines()
    assert [item.get_label() for item in crps] == ["MAM", "JJA"]
    expected = scores["crps"].sel(season="JJA", variable=PRESSURE) / 100
    np.testing.assert_allclose(crps[1].get_ydata(), expected)
    render(figure)


def test_scores_that_are_not_parted_are_not_drawn_by_parts(rich_scores):
    with pytest.raises(InputError, match="only by region"):
        plot_scores_by(rich_scores(regions=REGIONS), variable=PRESSURE, by="season")
    with pytest.raises(InputError, match="only by nothing"):
        plot_scores_by(rich_scores(), variable=PRESSURE)


# Ranks


def test_the_reliability_index_and_the_test_of_flatness_are_written(rich_scores):
    scores = rich_scores(leads=(6,))
    ranks = scores["rank_histogram"].sel(variable=PRESSURE).values[0]
    index = np.abs(ranks - 1 / 11).sum()
    title = plot_rank_histogram(scores, variable=PRESSURE).axes[0].get_title(loc="right")
    assert title == f"index {index:.2f}"
    scores["rank_histogram"] = 0 * scores["rank_histogram"] + 1 / 11
    figure = plot_rank_histogram(scores, variable=PRESSURE, effective_sample_size=50)
    assert figure.axes[0].get_title(loc="right") == "index 0.00, p 1"
