from __future__ import annotations

import numpy as np
import pytest
import scoringrules
import xarray as xr

from weatherdiff.data.simulator import LinearStochasticField
from weatherdiff.errors import (
    DimensionError,
    GridMismatchError,
    InputError,
    MissingInputError,
    UnitsError,
)
from weatherdiff.evaluation import (
    ClimatologyEnsemble,
    Event,
    Persistence,
    Settings,
    brier_decomposition,
    evaluate,
    merge_statistics,
    scores_from,
    statistics,
)
from weatherdiff.grid import Grid


@pytest.fixture
def references(analyses):
    return {
        "climatology": ClimatologyEnsemble(analyses, period=("2020-01-01", "2020-01-12")),
        "persistence": Persistence(analyses),
    }


def by_hand(forecasts, analyses, weights, level=None, name="2m_temperature"):
    """Scores of one channel, one lead at a time, from selections by label and scoringrules."""
    select = {} if level is None else {"level": level}
    rows = []
    for lead in forecasts["lead_time"].values:
        crps, square, variance, error, ranks, area = ([] for _ in range(6))
        for init in forecasts["init_time"].values:
            x = forecasts[name].sel(init_time=init, lead_time=lead, **select).values.astype(float)
            y = analyses[name].sel(time=init + lead, **select).values.astype(float)
            seen = ~np.isnan(y)
            x, y = x[:, seen], y[seen]
            crps.append(scoringrules.crps_ensemble(y, x, m_axis=0, estimator="fair"))
            square.append((x.mean(axis=0) - y) ** 2)
            variance.append(x.var(axis=0, ddof=1))
            error.append(x.mean(axis=0) - y)
            ranks.append((x < y).sum(axis=0))
            area.append(weights[seen])
        crps, square, variance, error, ranks, area = map(
            np.concatenate, (crps, square, variance, error, ranks, area)
        )
        members = forecasts.sizes["number"]
        rmse = np.sqrt(np.average(square, weights=area))
        spread = np.sqrt(np.average(variance, weights=area))
        rows.append(
            {
                "crps": np.average(crps, weights=area),
                "rmse": rmse,
                "spread": spread,
                "spread_skill_ratio": np.sqrt((members + 1) / members) * spread / rmse,
                "bias": np.average(error, weights=area),
                "mae": np.average(np.abs(error), weights=area),
                "rank_histogram": np.bincount(ranks, area, members + 1) / area.sum(),
            }
        )
    return {score: np.array([row[score] for row in rows]) for score in rows[0]}


def test_scores_equal_those_taken_by_hand_with_area_weights(forecasts, analyses):
    analyses = analyses.where((analyses["latitude"] < 60) | (analyses["longitude"] > -5))
    weights = Grid.from_dataset(analyses).area_weights().values
    assert np.ptp(weights) > 0.5
    scores = evaluate(forecasts, analyses)
    for label, arguments in {
        "2m_temperature": {},
        "geopotential_500": {"name": "geopotential", "level": 500},
        "geopotential_850": {"name": "geopotential", "level": 850},
    }.items():
        for score, expected in by_hand(forecasts, analyses, weights, **arguments).items():
            np.testing.assert_allclose(
                scores[score].sel(variable=label), expected, rtol=1e-9, atol=1e-9, err_msg=score
            )


def test_scores_have_the_documented_layout(forecasts, analyses, references):
    scores = evaluate(forecasts, analyses, reference=references)
    assert scores["variable"].values.tolist() == [
        "2m_temperature",
        "geopotential_500",
        "geopotential_850",
    ]
    assert scores["units"].values.tolist() == ["K", "m**2 s**-2", "m**2 s**-2"]
    for name in (
        *("crps", "rmse", "spread", "spread_skill_ratio", "bias", "mae", "coverage"),
        *("crps_climatology", "crps_persistence", "crpss_climatology", "crpss_persistence"),
    ):
        assert scores[name].dims == ("variable", "lead_time")
        assert np.isfinite(scores[name]).all()
    assert scores["rank_histogram"].dims == ("variable", "lead_time", "rank")
    np.testing.assert_allclose(scores["rank_histogram"].sum("rank"), 1)
    assert scores["lead_time"].dtype == "timedelta64[ns]"
    assert scores.attrs == {
        "members": 3,
        "inits": 7,
        "period": "2020-01-13T00:00:00/2020-01-14T12:00:00",
        "estimator": "fair",
        "nan": "propagate",
        "references": ["climatology", "persistence"],
    }
    assert scores["crps_climatology"].attrs == {"members": 12, "estimator": "fair"}
    assert scores["crps_persistence"].attrs == {"members": 1, "estimator": "standard"}


def test_references_score_as_they_would_as_forecasts(forecasts, analyses, references):
    scores = evaluate(forecasts, analyses, reference=references)
    times = forecasts["init_time"].values, forecasts["lead_time"].values
    climatology = evaluate(references["climatology"].forecast(*times), analyses)
    persistence = evaluate(
        references["persistence"].forecast(*times), analyses, estimator="standard"
    )
    np.testing.assert_array_equal(scores["crps_climatology"], climatology["crps"])
    np.testing.assert_array_equal(scores["crps_persistence"], persistence["crps"])
    # The CRPS is the sum of its parts above and below, so the last bit may differ.
    np.testing.assert_allclose(scores["crps_persistence"], persistence["mae"], rtol=1e-14)
    for name, reference in (("climatology", climatology), ("persistence", persistence)):
        np.testing.assert_allclose(
            scores[f"crpss_{name}"], 1 - scores["crps"] / reference["crps"], rtol=1e-14
        )
    assert persistence["spread"].isnull().all()


def test_a_perfect_gaussian_ensemble_has_ratio_one_and_a_flat_rank_histogram():
    rng = np.random.default_rng(10)
    time = np.arange("2020-01-01", "2020-02-10", dtype="datetime64[D]").astype("datetime64[ns]")
    grid = {"latitude": np.linspace(-60, 80, 20), "longitude": np.linspace(0, 300, 25)}
    shape = (len(time), 20, 25)
    centre = rng.normal(size=shape)
    analyses = xr.Dataset(
        {"t": (("time", "latitude", "longitude"), centre + rng.normal(size=shape))},
        {"time": time, **grid},
    )
    members = np.moveaxis(centre + rng.normal(size=(4, *shape)), 0, 1)[:, np.newaxis]
    dims = ("init_time", "lead_time", "number", "latitude", "longitude")
    lead = np.array([24], dtype="timedelta64[h]").astype("timedelta64[ns]")
    forecasts = xr.Dataset(
        {"t": (dims, members)}, {"init_time": time - lead, "lead_time": lead, **grid}
    )
    scores = evaluate(forecasts, analyses)
    # Without the factor sqrt(5 / 4) it would be 0.89; 20,000 independent cells settle 1 %.
    assert float(scores["spread_skill_ratio"].squeeze()) == pytest.approx(1, abs=0.02)
    np.testing.assert_allclose(scores["rank_histogram"].values.ravel(), 1 / 5, atol=0.02)


def test_the_simulators_true_predictive_distribution_is_calibrated_in_every_score():
    field = LinearStochasticField(shape=(8, 12))
    analyses = field.simulate(400, seed=3)
    # Six frames apart, the longest lead: what happens after one start says little of the next.
    times = analyses["time"].values[10:370:6]
    large = field.sample_predictive(analyses, init_times=times, leads=6, members=40, seed=4)
    small = large.isel(number=slice(10))
    settings = Settings(events=(Event("2m_temperature", 285.0),), decomposition=True)
    expected = field.expected_crps(6).to_dataarray()
    for forecasts in (small, large):
        members = forecasts.sizes["number"]
        scores = evaluate(forecasts, analyses, settings=settings)
        # Bounds are about three times what other seeds give.
        ratio, histogram = scores["spread_skill_ratio"], scores["rank_histogram"].mean("lead_time")
        assert np.abs(ratio - 1).max() < 0.1
        assert np.abs(ratio.mean("lead_time") - 1).max() < 0.05
        np.testing.assert_allclose(histogram * (members + 1), 1, atol=0.025 * members**0.75)
        np.testing.assert_allclose(
            scores["crps"], expected.sel(variable=scores["variable"]), rtol=0.12
        )
        # Not zero for few members: about 1.5 / M^2, see hersbach_decomposition.
        share = scores["crps_reliability"].mean("lead_time") / scores["crps"].mean("lead_time")
        np.testing.assert_allclose(share, 1.5 / members**2, atol=0.006)
    tables = (scores[f"sum_event_{name}"].sel(variable="2m_temperature", region="all")
              .sum(["init_time", "lead_time"]) for name in ("count", "occurred"))  # fmt: skip
    brier = brier_decomposition(*tables).squeeze()
    assert 0 <= brier["reliability"] < 0.01 * brier["uncertainty"]
    assert brier["resolution"] > 0.2 * brier["uncertainty"]


@pytest.mark.parametrize("block", [1, 3, 50])
def test_any_block_gives_the_same_bits(forecasts, analyses, references, block):
    whole = evaluate(forecasts, analyses, reference=references)
    parts = evaluate(forecasts, analyses, reference=references, settings=Settings(block=block))
    xr.testing.assert_identical(parts, whole)


def test_any_chunking_gives_the_same_bits(forecasts, analyses, references):
    whole = evaluate(forecasts, analyses, reference=references)
    lazy = evaluate(
        forecasts.chunk(init_time=2, number=1, latitude=2),
        analyses.chunk(time=9, level=1, longitude=3),
        reference=references,
    )
    xr.testing.assert_identical(lazy, whole)


def test_merged_statistics_of_separate_runs_equal_those_of_one_run(forecasts, analyses, references):
    # A cell that only the second half observes counts as possible in the first half too.
    cell = {"latitude": analyses["latitude"][1], "longitude": analyses["longitude"][2]}
    late = analyses["time"] > analyses["time"][53]
    analyses.loc[{**cell, "time": ~late}] = np.nan
    whole = statistics(forecasts, analyses, reference=references)
    parts = [
        statistics(forecasts.isel(init_time=index), analyses, reference=references)
        for index in ([5, 6], [0], [4, 1, 3, 2])
    ]
    xr.testing.assert_identical(merge_statistics(parts), whole)
    xr.testing.assert_identical(scores_from(merge_statistics(parts)), scores_from(whole))
    assert scores_from(whole)["coverage"].max() < 1


def test_sums_over_a_partition_of_the_cells_add(forecasts, analyses):
    area = Grid.from_dataset(analyses).area_weights()
    north = area.where(area["latitude"] > 0, 0.0)
    whole, *halves = (
        statistics(forecasts, analyses, settings=Settings(weights=w))
        for w in (area, north, area - north)
    )
    for name in whole:
        if name.startswith("sum_"):
            np.testing.assert_allclose(halves[0][name] + halves[1][name], whole[name], atol=1e-6)


def test_merging_what_differs_or_repeats_is_refused(forecasts, analyses, make_forecasts):
    part = statistics(forecasts, analyses)
    with pytest.raises(InputError, match="count twice"):
        merge_statistics([part, part.isel(init_time=[3])])
    with pytest.raises(InputError, match="members"):
        merge_statistics([part, statistics(make_forecasts(members=5), analyses)])
    other = statistics(forecasts[["geopotential"]], analyses)
    with pytest.raises(InputError, match="variable"):
        merge_statistics([part, other])
    with pytest.raises(InputError, match="no statistics"):
        merge_statistics([])
    with pytest.raises(InputError, match="no initial time"):
        scores_from(part.isel(init_time=[]))


def test_scores_of_selected_initial_times_follow_from_stored_statistics(forecasts, analyses):
    chosen = evaluate(forecasts, analyses).isel(init_time=slice(2, 5))
    expected = evaluate(forecasts.isel(init_time=slice(2, 5)), analyses)
    xr.testing.assert_identical(scores_from(chosen), expected)


def test_flipped_latitude_in_either_changes_nothing(forecasts, analyses, references):
    whole = evaluate(forecasts, analyses, reference=references)
    flip = {"latitude": slice(None, None, -1)}
    flipped = {"persistence": Persistence(analyses.isel(flip))}
    area = Grid.from_dataset(analyses).area_weights()
    for arguments, options in (
        ((forecasts.isel(flip), analyses), {"reference": references}),
        (
            (forecasts, analyses.isel(flip)),
            {"settings": Settings(weights=area.isel(flip)), "reference": references},
        ),
        (
            (forecasts.isel(flip), analyses.isel(flip)),
            {"reference": {"climatology": references["climatology"], **flipped}},
        ),
    ):
        xr.testing.assert_identical(evaluate(*arguments, **options), whole)


def test_order_of_the_forecasts_variables_changes_nothing(forecasts, analyses):
    turned = forecasts[["geopotential", "2m_temperature"]]
    xr.testing.assert_identical(evaluate(turned, analyses), evaluate(forecasts, analyses))


def test_dimension_order_of_the_input_changes_nothing(forecasts, analyses):
    turned = evaluate(
        forecasts.transpose("number", "longitude", "level", "latitude", ...),
        analyses.transpose("longitude", "time", ...),
    )
    xr.testing.assert_identical(turned, evaluate(forecasts, analyses))


def test_cells_never_observed_are_left_out_and_do_not_lower_coverage(forecasts, analyses):
    land = analyses["latitude"] > -40
    scores = evaluate(forecasts.where(land), analyses.where(land))
    expected = evaluate(
        forecasts,
        analyses,
        settings=Settings(weights=Grid.from_dataset(analyses).area_weights() * land),
    )
    np.testing.assert_allclose(scores["crps"], expected["crps"], rtol=1e-12)
    assert (scores["coverage"] == 1).all()


def test_nan_in_a_forecast_propagates_to_its_scores_and_shows_in_coverage(forecasts, analyses):
    forecasts["2m_temperature"][4, 1, 2, 3, 0] = np.nan
    scores = evaluate(forecasts, analyses)
    for name in ("crps", "rmse", "spread", "spread_skill_ratio", "bias", "mae"):
        missing = scores[name].isnull().values
        assert missing[0].tolist() == [False, True, False], name
        assert not missing[1:].any(), name
    assert scores["rank_histogram"].isnull().any("rank").values[0].tolist() == [False, True, False]
    share = Grid.from_dataset(analyses).area_weights().values[3, 0] / 20 / 7
    np.testing.assert_allclose(scores["coverage"].values[0], [1, 1 - share, 1])


def test_nan_in_a_forecast_is_omitted_on_request_for_the_references_too(
    forecasts, analyses, references
):
    forecasts["2m_temperature"][4, 1, 2, 3, 0] = np.nan
    scores = evaluate(forecasts, analyses, reference=references, settings=Settings(nan="omit"))
    # The same as if the observation of that one valid time and cell were not there.
    one = forecasts.isel(init_time=[4], lead_time=[1])
    rest = forecasts.isel(lead_time=[1]).drop_isel(init_time=4)
    gap = analyses.copy(deep=True)
    gap["2m_temperature"].loc[{"time": one["init_time"][0] + one["lead_time"][0]}][3, 0] = np.nan
    expected = scores_from(
        merge_statistics(
            [
                statistics(rest, analyses, reference=references),
                statistics(one, gap, reference=references),
            ]
        )
    )
    for name in ("crps", "crps_climatology", "crps_persistence", "crpss_climatology", "spread"):
        np.testing.assert_allclose(scores[name][0, 1], expected[name][0, 0], rtol=1e-13)
    share = Grid.from_dataset(analyses).area_weights().values[3, 0] / 20 / 7
    np.testing.assert_allclose(scores["coverage"].values[0], [1, 1 - share, 1])


def test_nan_in_a_reference_propagates_to_the_reference_only(forecasts, analyses):
    gap = analyses.copy(deep=True)
    gap["2m_temperature"].loc[{"time": forecasts["init_time"][2]}] = np.nan
    scores = evaluate(forecasts, analyses, reference={"persistence": Persistence(gap)})
    assert scores["crpss_persistence"].isnull().values[0].all()
    assert scores["crps"].notnull().all()
    np.testing.assert_allclose(scores["coverage"].values[0], 6 / 7)
    assert (scores["coverage"][1:] == 1).all()


def test_missing_valid_times_are_counted_and_not_filled(forecasts, analyses):
    # Position 51 verifies three (init, lead) pairs: leads of 6, 12 and 18 h.
    gap = analyses.drop_isel(time=51)
    scores = evaluate(forecasts, gap)
    assert scores["missing_valid_times"].values.tolist() == [1, 1, 1]
    np.testing.assert_allclose(scores["coverage"], 6 / 7)
    kept = forecasts.isel(lead_time=[0]).drop_isel(init_time=2)
    np.testing.assert_allclose(
        scores["crps"].isel(lead_time=0), evaluate(kept, analyses)["crps"][:, 0], rtol=1e-13
    )


def test_a_time_an_instant_away_from_an_observation_is_missing(forecasts, analyses):
    shifted = analyses["time"].values.copy()
    shifted[51] += np.timedelta64(1, "ns")
    scores = evaluate(forecasts, analyses.assign_coords(time=shifted))
    assert scores["missing_valid_times"].values.tolist() == [1, 1, 1]


def test_no_valid_time_among_the_observations_is_refused(forecasts, analyses):
    with pytest.raises(MissingInputError, match="no valid time"):
        evaluate(forecasts, analyses.isel(time=slice(0, 10)))


def test_integer_lead_times_are_refused_with_the_remedy(forecasts, analyses):
    with pytest.raises(DimensionError, match="decode_timedelta=True"):
        evaluate(forecasts.assign_coords(lead_time=[6, 12, 18]), analyses)


def test_a_climatology_fitted_on_the_test_period_is_refused(forecasts, analyses):
    cheat = ClimatologyEnsemble(analyses, period=("2020-01-01", "2020-01-14"))
    with pytest.raises(InputError, match="own training period"):
        evaluate(forecasts, analyses, reference={"climatology": cheat})


def test_swapped_forecasts_and_observations_are_refused(forecasts, analyses):
    with pytest.raises(DimensionError, match="init_time"):
        evaluate(analyses, forecasts)


def test_a_forecast_without_members_is_refused(forecasts, analyses):
    with pytest.raises(DimensionError, match="number"):
        evaluate(forecasts.isel(number=0), analyses)
    with pytest.raises(DimensionError, match="standard"):
        evaluate(forecasts.isel(number=[0]), analyses)


def test_grids_that_differ_are_refused(forecasts, analyses):
    moved = analyses.assign_coords(longitude=analyses["longitude"] + 0.25)
    with pytest.raises(GridMismatchError, match="observations"):
        evaluate(forecasts, moved)
    with pytest.raises(GridMismatchError, match="reference persistence"):
        evaluate(forecasts, analyses, reference={"persistence": Persistence(moved)})
    with pytest.raises(GridMismatchError, match="weights"):
        evaluate(
            forecasts, analyses, settings=Settings(weights=Grid.from_dataset(moved).area_weights())
        )


def test_units_that_differ_are_refused_and_absent_ones_are_not(forecasts, analyses):
    silent = analyses.copy()
    silent["2m_temperature"].attrs = {}
    assert evaluate(forecasts, silent)["units"].values[0] == "K"
    celsius = analyses.copy()
    celsius["2m_temperature"].attrs = {"units": "degC"}
    with pytest.raises(UnitsError, match=r"'K'.*'degC'"):
        evaluate(forecasts, celsius)
    with pytest.raises(UnitsError, match="degC"):
        evaluate(forecasts, analyses, reference={"persistence": Persistence(celsius)})


def test_only_what_is_in_both_is_scored_and_nothing_in_common_is_refused(forecasts, analyses):
    scores = evaluate(forecasts, analyses.sel(level=[850])[["geopotential"]])
    assert scores["variable"].values.tolist() == ["geopotential_850"]
    expected = evaluate(forecasts, analyses)["crps"].sel(variable=["geopotential_850"])
    np.testing.assert_array_equal(scores["crps"], expected)
    with pytest.raises(InputError, match="no variable is in both"):
        evaluate(forecasts[["2m_temperature"]], analyses[["geopotential"]])
    with pytest.raises(InputError, match="does not forecast geopotential_500"):
        evaluate(
            forecasts,
            analyses,
            reference={"persistence": Persistence(analyses[["2m_temperature"]])},
        )


@pytest.mark.parametrize(
    ("spoil", "error", "match"),
    [
        (
            lambda f, a: (f.isel(init_time=[0, 0, 1]), a),
            InputError,
            "init_time holds a value twice",
        ),
        (lambda f, a: (f, a.isel(time=slice(None, None, -1))), InputError, "not ascending"),
        (
            lambda f, a: (f.assign_coords(valid_time=f["init_time"] + 2 * f["lead_time"]), a),
            InputError,
            "valid_time",
        ),
        (
            lambda f, a: (f.assign_coords(valid_time=("init_time", f["init_time"].values)), a),
            InputError,
            "valid_time",
        ),
        (
            lambda f, a: (f.assign_coords(valid_time=("number", a["time"].values[:3])), a),
            DimensionError,
            "valid_time has dimensions",
        ),
        (lambda f, a: (f.isel(init_time=[]), a), InputError, "empty selection.*init_time"),
        (lambda f, a: (f.isel(lead_time=[]), a), InputError, "empty selection.*lead_time"),
        (lambda f, a: (f.isel(number=[]), a), InputError, "empty selection.*number"),
        (lambda f, a: (f.isel(lead_time=[0, 1, 1]), a), InputError, "lead_time .*twice"),
        (lambda f, a: (f.isel(number=[0, 1, 1]), a), InputError, "number .*twice"),
        (
            lambda f, a: (f.assign_coords(lead_time=f["lead_time"].shift(lead_time=1)), a),
            InputError,
            "NaT",
        ),
        (
            lambda f, a: (f, a.convert_calendar("noleap", use_cftime=True)),
            InputError,
            "forecasts are in the calendar proleptic_gregorian, .* observations in .* noleap",
        ),
        (lambda f, a: (f.expand_dims(realm=2), a), DimensionError, "realm"),
        (lambda f, a: (f, a.drop_vars("time")), DimensionError, "no coordinate time"),
        (lambda f, a: (f.assign_coords(init_time=range(7)), a), DimensionError, "init_time"),
    ],
)
def test_unusable_input_is_refused(forecasts, analyses, spoil, error, match):
    with pytest.raises(error, match=match):
        evaluate(*spoil(forecasts, analyses))


@pytest.mark.parametrize("value", [-1.0, np.nan, 0.0])
def test_unusable_weights_are_refused(forecasts, analyses, value):
    weights = Grid.from_dataset(analyses).area_weights()
    with pytest.raises(InputError, match="weights"):
        evaluate(forecasts, analyses, settings=Settings(weights=weights.where(weights < 0, value)))


def test_a_region_twice_is_refused(forecasts, analyses):
    all_cells = xr.ones_like(Grid.from_dataset(analyses).area_weights())
    twice = xr.concat([all_cells, all_cells], "region").assign_coords(region=["a", "a"])
    with pytest.raises(InputError, match="twice: a, a"):
        evaluate(forecasts, analyses, settings=Settings(regions=twice))


def test_valid_times_along_one_dimension_are_those_of_the_only_lead_time(forecasts, analyses):
    one = forecasts.isel(lead_time=[0])
    valid = ("init_time", (one["init_time"] + one["lead_time"][0]).values)
    scores = evaluate(one.assign_coords(valid_time=valid), analyses)
    xr.testing.assert_identical(scores, evaluate(one, analyses))


@pytest.mark.parametrize("options", [{"nan": "ignore"}, {"block": 0}])
def test_unknown_settings_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is"):
        Settings(**options)


def test_an_unknown_estimator_is_refused_before_the_work(forecasts, analyses):
    with pytest.raises(ValueError, match="estimator is"):
        evaluate(forecasts, analyses, estimator="pwm")


def test_progress_is_told_after_every_block(forecasts, analyses):
    told = []
    evaluate(
        forecasts,
        analyses,
        settings=Settings(block=3),
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(3, 7), (6, 7), (7, 7)]


def test_forecasts_are_read_a_block_at_a_time(forecasts, analyses):
    finished, too_early = [0], []

    def read(block: np.ndarray, block_info: dict) -> np.ndarray:
        (first, _), *_ = block_info[0]["array-location"]
        if first >= finished[0] + 2:
            too_early.append(first)
        return block

    watched = forecasts[["2m_temperature"]].chunk(init_time=1)
    watched["2m_temperature"].data = watched["2m_temperature"].data.map_blocks(
        read, dtype=np.float32, meta=np.empty((), np.float32)
    )
    scores = evaluate(
        watched,
        analyses,
        settings=Settings(block=2),
        progress=lambda done, total: finished.__setitem__(0, done),
    )
    assert too_early == []
    assert scores.sizes["init_time"] == 7


def test_a_perfect_reference_gives_an_undefined_skill(forecasts, analyses):
    constant = xr.zeros_like(analyses[["2m_temperature"]])
    scores = evaluate(forecasts, constant, reference={"persistence": Persistence(constant)})
    assert (scores["crps_persistence"] == 0).all()
    assert scores["crpss_persistence"].isnull().all()
