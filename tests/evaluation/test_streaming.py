"""The streaming pass: any cut of the work, events, regions, maps, fields, stores, executors."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import dask
import numpy as np
import pytest
import scoringrules
import xarray as xr

from weatherdiff.errors import InputError, LockedError, StorageError
from weatherdiff.evaluation import (
    ClimatologyEnsemble,
    EnergyScore,
    Event,
    FractionsSkillScore,
    Persistence,
    Settings,
    energy_score,
    evaluate,
    fractions_skill_score,
    matching,
    open_scores,
    scores_from,
    statistics,
)
from weatherdiff.evaluation.lockstep import match_blocks, score_blocks
from weatherdiff.grid import Grid
from weatherdiff.staging import locked

EVENTS = (Event("2m_temperature", 280.5), Event("geopotential_500", 4.99e4, above=False))


@pytest.fixture
def references(analyses):
    return {
        "climatology": ClimatologyEnsemble(analyses, period=("2020-01-01", "2020-01-12")),
        "persistence": Persistence(analyses),
    }


@pytest.fixture
def everything(analyses) -> Settings:
    grid = Grid.from_dataset(analyses)
    north = xr.ones_like(grid.area_weights()).where(grid.area_weights()["latitude"] > 0, 0.0)
    shares = xr.concat([xr.ones_like(north), north], "region").assign_coords(
        region=["all", "north"]
    )
    return Settings(
        regions=shares,
        events=EVENTS,
        decomposition=True,
        maps=True,
        fields=(EnergyScore(), EnergyScore(lead_time=True), FractionsSkillScore((1, 3))),
    )


@pytest.fixture(scope="module")
def kept() -> dict[str, xr.Dataset]:
    """What the first test that needs it computes."""
    return {}


@pytest.fixture
def scores(kept, forecasts, analyses, references, everything) -> xr.Dataset:
    """The scores of all there is."""
    if not kept:
        kept["scores"] = evaluate(forecasts, analyses, reference=references, settings=everything)
    return kept["scores"].copy(deep=True)


@pytest.fixture
def wide(analyses, make_forecasts):
    """Interpolated to 37 longitudes, so that rows can be cut at whole tiles of 128 rows only."""
    latitude, longitude = np.linspace(-80, 80, 161), np.linspace(-9, 8, 16)
    to = {"latitude": latitude, "longitude": longitude}
    options = {"kwargs": {"fill_value": "extrapolate"}}
    return (
        make_forecasts(3)[["2m_temperature"]].interp(to, **options).astype(np.float32),
        analyses[["2m_temperature"]].interp(to, **options).astype(np.float32),
    )


def assert_same(left: xr.Dataset, right: xr.Dataset) -> None:
    """Identical, but for maps, whose sums over initial times depend on their blocks."""
    maps = [name for name in left.data_vars if str(name).startswith("map_")]
    xr.testing.assert_identical(left.drop_vars(maps), right.drop_vars(maps))
    for name in maps:
        np.testing.assert_allclose(left[name], right[name], rtol=1e-12, atol=1e-9)


def test_any_cut_in_lead_time_and_space_gives_the_same_bits(wide, references, monkeypatch):
    forecasts, analyses = wide
    references = {"persistence": Persistence(analyses)}
    settings = Settings(events=EVENTS[:1], decomposition=True, maps=True)
    whole = statistics(forecasts, analyses, reference=references, settings=settings)
    monkeypatch.setattr(matching, "BLOCK_BYTES", 1024)
    matched = matching.match(forecasts, analyses, references, settings)
    rows = {row.stop - row.start for _, row in matched.tiles()}
    assert rows == {8, 1}  # 8 rows of 16 cells are a tile
    cut = statistics(forecasts, analyses, reference=references, settings=settings)
    assert_same(cut, whole)


def test_threads_give_the_same_bits_in_the_same_order(forecasts, analyses, references, everything):
    settings = replace(everything, block=2)
    told: list[tuple[int, int]] = []
    one = statistics(forecasts, analyses, reference=references, settings=settings)
    with ThreadPoolExecutor(3) as pool:
        many = statistics(
            forecasts, analyses, reference=references, settings=settings, executor=pool,
            progress=lambda done, total: told.append((done, total)),
        )  # fmt: skip
    xr.testing.assert_identical(many, one)
    assert told == [(2, 7), (4, 7), (6, 7), (7, 7)]


def test_reading_stays_in_the_thread_that_asks_and_does_not_configure_dask(forecasts, analyses):
    seen = set()

    def read(block: np.ndarray) -> np.ndarray:
        seen.add((threading.get_ident(), dask.config.get("scheduler", "not set")))
        return block

    watched = forecasts[["2m_temperature"]].chunk(init_time=1, lead_time=1)
    watched["2m_temperature"].data = watched["2m_temperature"].data.map_blocks(
        read, dtype=np.float32, meta=np.empty((), np.float32)
    )
    statistics(watched, analyses)
    assert seen == {(threading.get_ident(), "not set")}


@pytest.mark.deep
def test_a_distributed_cluster_gives_the_same_bits(forecasts, analyses, references, everything):
    from dask.distributed import Client, LocalCluster

    settings = replace(everything, block=2)
    one = statistics(forecasts, analyses, reference=references, settings=settings)
    with (
        LocalCluster(2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        client.get_executor() as executor,
    ):
        many = statistics(
            forecasts.chunk(init_time=1), analyses, reference=references, settings=settings,
            executor=executor,
        )  # fmt: skip
    xr.testing.assert_identical(many, one)


def test_estimators_follow_from_the_same_statistics(forecasts, analyses):
    sums = statistics(forecasts[["2m_temperature"]], analyses)
    weights = Grid.from_dataset(analyses).area_weights().values
    x = forecasts["2m_temperature"].values.astype(float)
    valid = (forecasts["init_time"] + forecasts["lead_time"]).values
    y = analyses["2m_temperature"].sel(time=valid.ravel()).values.reshape(7, 3, 5, 4)
    for ours, theirs in (("fair", "fair"), ("standard", "nrg")):
        point = scoringrules.crps_ensemble(y, x, m_axis=2, estimator=theirs)
        expected = np.average(point.mean(axis=0).reshape(3, -1), weights=weights.ravel(), axis=-1)
        score = scores_from(sums, estimator=ours)["crps"].values[0]
        np.testing.assert_allclose(score, expected, rtol=1e-10)
    fair, standard = (scores_from(sums, estimator=e)["crps"] for e in ("fair", "standard"))
    almost = scores_from(sums, estimator="almost_fair")["crps"]
    np.testing.assert_allclose(almost, 0.95 * fair + 0.05 * standard, rtol=1e-12)
    same = scores_from(sums, estimator="adjusted", ensemble_size=3)["crps"]
    np.testing.assert_allclose(same, standard, rtol=1e-12)
    large = scores_from(sums, estimator="adjusted", ensemble_size=10**9)["crps"]
    np.testing.assert_allclose(large, fair, rtol=1e-8)


def test_event_tables_hold_the_brier_score(forecasts, analyses, scores):
    weights = Grid.from_dataset(analyses).area_weights().values
    valid = forecasts["init_time"].values + forecasts["lead_time"].values[1]
    x = forecasts["2m_temperature"].isel(lead_time=1).values
    y = analyses["2m_temperature"].sel(time=valid).values
    p, o = (x > 280.5).mean(axis=1), y > 280.5
    fair = (p - o) ** 2 - p * (1 - p) / 2
    area = np.broadcast_to(weights, y.shape)
    label = "2m_temperature>280.5"
    at = {"variable": "2m_temperature", "event": label, "region": "all"}
    here = scores.isel(lead_time=1).sel(at)
    np.testing.assert_allclose(here["brier"], np.average(fair, weights=area), rtol=1e-10)
    np.testing.assert_allclose(here["base_rate"], np.average(o, weights=area), rtol=1e-10)
    clipped = scoringrules.crps_ensemble(
        np.maximum(y, 280.5).astype(float), np.maximum(x, 280.5).astype(float), m_axis=1,
        estimator="fair",
    )  # fmt: skip
    np.testing.assert_allclose(
        here["threshold_weighted_crps"], np.average(clipped, weights=area), rtol=1e-6
    )
    persisted = analyses["2m_temperature"].sel(time=forecasts["init_time"].values).values > 280.5
    wrong = (persisted.astype(float) - o) ** 2
    np.testing.assert_allclose(here["brier_persistence"], np.average(wrong, weights=area))
    np.testing.assert_allclose(
        here["brier_skill_persistence"], 1 - here["brier"] / here["brier_persistence"]
    )
    assert scores["brier"].sel(variable="geopotential_850").isnull().all()


def test_a_region_scores_as_its_cells_alone(forecasts, analyses, references, everything, scores):
    weights = Grid.from_dataset(analyses).area_weights() * (analyses["latitude"] > 0)
    alone = evaluate(
        forecasts, analyses, reference=references,
        settings=replace(everything, regions=None, weights=weights, fields=()),
    )  # fmt: skip
    for name in ("crps", "rmse", "spread_skill_ratio", "rank_histogram", "crpss_climatology",
                 "coverage", "brier", "brier_skill_climatology"):  # fmt: skip
        np.testing.assert_allclose(
            scores[name].sel(region="north"), alone[name], rtol=1e-12, err_msg=name
        )


def test_maps_average_to_the_scores(scores):
    area = scores["cell_weight"].sel(region="all")
    cells = ("latitude", "longitude")
    crps = scores["map_over"] + scores["map_under"] - scores["map_dispersion"]
    for fields, name in ((crps, "crps"), (scores["map_crps_climatology"], "crps_climatology"),
                         (scores["map_error"], "bias")):  # fmt: skip
        mean = (fields * area).sum(cells) / (scores["map_weight"] * area).sum(cells)
        np.testing.assert_allclose(mean, scores[name].sel(region="all"), rtol=1e-9)


def test_fields_score_as_the_functions_do(forecasts, analyses, scores):
    area = Grid.from_dataset(analyses).area_weights()
    valid = forecasts["init_time"] + forecasts["lead_time"]
    observed = analyses["2m_temperature"].sel(time=valid).drop_vars("time")
    members = forecasts["2m_temperature"]
    space = ("latitude", "longitude")
    expected = energy_score(members, observed, over=space, weights=area).mean("init_time")
    found = scores["energy_score"].sel(variable="2m_temperature", region="all")
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    joint = energy_score(members, observed, over=("lead_time", *space), weights=area)
    found = scores["energy_score_lead_time"].sel(variable="2m_temperature", region="all")
    np.testing.assert_allclose(found, joint.mean("init_time"), rtol=1e-9)
    persistence = analyses["2m_temperature"].sel(time=forecasts["init_time"]).drop_vars("time")
    apart = ((persistence - observed) ** 2).weighted(area).mean(space) ** 0.5
    found = scores["energy_score_persistence"].sel(variable="2m_temperature", region="all")
    np.testing.assert_allclose(found, apart.mean("init_time"), rtol=1e-6)
    fss = fractions_skill_score(members, observed, threshold=280.5, windows=(1, 3), weights=area)
    assert "fractions_skill_score" in scores
    assert set(fss.dims) >= {"window"}


def test_a_missing_valid_time_leaves_out_the_joint_score_of_its_initial_time(forecasts, analyses):
    settings = Settings(fields=(EnergyScore(lead_time=True),))
    gap = analyses.drop_isel(time=57)  # the last valid time of the last initial time alone
    scores = evaluate(forecasts, gap, settings=settings)
    kept = evaluate(forecasts.isel(init_time=slice(4)), analyses, settings=settings)
    assert scores["sum_energy_score_lead_time_weight"].sum() < 3 * 7
    np.testing.assert_allclose(
        scores["sum_energy_score_lead_time_distance"].isel(init_time=slice(4)),
        kept["sum_energy_score_lead_time_distance"],
    )


@pytest.mark.parametrize("nan", ["propagate", "omit"])
def test_a_member_missing_as_a_whole_is_an_error(forecasts, analyses, nan):
    forecasts["2m_temperature"][4, 1, 2] = np.nan
    with pytest.raises(InputError, match=r"member 2 of 2m_temperature .*T00:00 .*12 h"):
        evaluate(forecasts, analyses, settings=Settings(nan=nan))


def test_scores_by_month_are_those_of_its_initial_times(forecasts, analyses):
    sums = statistics(forecasts, analyses)
    hours = scores_from(sums, by="hour")
    assert hours["crps"].dims == ("variable", "hour", "lead_time")
    midnight = sums["init_time"].dt.hour == 0
    expected = scores_from(sums.isel(init_time=np.flatnonzero(midnight)))
    np.testing.assert_allclose(hours["crps"].sel(hour=0), expected["crps"], rtol=1e-12)
    valid = scores_from(sums, by="valid_hour")
    assert valid["rank_histogram"].dims == ("variable", "valid_hour", "lead_time", "rank")
    np.testing.assert_allclose(
        valid["crps"].sel(valid_hour=6, lead_time=np.timedelta64(6, "h")),
        expected["crps"].sel(lead_time=np.timedelta64(6, "h")),
        rtol=1e-12,
    )
    with pytest.raises(ValueError, match="by is"):
        scores_from(sums, by="weekday")


def test_a_store_goes_on_where_a_stopped_run_was(
    forecasts, analyses, references, everything, tmp_path
):
    settings = replace(everything, block=2)
    path = tmp_path / "scores.zarr"
    done = []

    def stop(count: int, total: int) -> None:
        if count == 4:
            raise KeyboardInterrupt

    arguments = {"reference": references, "settings": settings, "store": path}
    with pytest.raises(KeyboardInterrupt):
        statistics(forecasts, analyses, progress=stop, **arguments)
    assert not path.exists()
    statistics(forecasts, analyses, progress=lambda n, total: done.append((n, total)), **arguments)
    assert done == [(2, 5), (4, 5), (5, 5)]  # the first block was kept, the second was in the air
    whole = evaluate(forecasts, analyses, reference=references, settings=settings)
    stored = open_scores(path)
    del stored.attrs["scored_with"]
    assert_same(stored, whole)
    assert [p.name for p in tmp_path.iterdir() if p.name != ".scores.zarr.lock"] == ["scores.zarr"]


def test_later_forecasts_are_appended_and_scored_ones_are_not_read_again(
    forecasts, analyses, everything, tmp_path
):
    arguments = {"settings": everything, "store": tmp_path / "scores.zarr"}
    statistics(forecasts.isel(init_time=slice(4)), analyses, **arguments)
    told = []
    sums = statistics(
        forecasts, analyses, progress=lambda n, total: told.append((n, total)), **arguments
    )
    assert told == [(3, 3)]
    again = statistics(
        forecasts.isel(init_time=slice(2)), analyses, progress=pytest.fail, **arguments
    )
    xr.testing.assert_identical(again, sums)
    del sums.attrs["scored_with"]
    assert_same(sums, statistics(forecasts, analyses, settings=everything))


def test_a_store_of_other_settings_is_refused_and_kept(forecasts, analyses, tmp_path):
    path = tmp_path / "scores.zarr"
    evaluate(forecasts, analyses, store=path)
    before = open_scores(path)
    with pytest.raises(InputError, match="other settings"):
        evaluate(forecasts, analyses, store=path, settings=Settings(events=EVENTS))
    with pytest.raises(InputError, match="other settings"):
        evaluate(forecasts.isel(number=slice(2)), analyses, store=path)
    xr.testing.assert_identical(open_scores(path), before)


def test_a_store_of_other_forecasts_is_refused_and_kept(forecasts, analyses, tmp_path):
    path = tmp_path / "scores.zarr"
    one = evaluate(forecasts, analyses, store=path)
    other = forecasts + 1
    with pytest.raises(InputError, match="other forecasts"):
        evaluate(other.assign_attrs(history="now"), analyses, store=path)
    xr.testing.assert_allclose(open_scores(path)["crps"], one["crps"])
    sums = statistics(other, analyses, store=path, replace=True)
    xr.testing.assert_allclose(scores_from(sums)["crps"], evaluate(other, analyses)["crps"])


def test_parts_of_a_stopped_run_of_other_forecasts_are_not_taken(forecasts, analyses, tmp_path):
    path, settings = tmp_path / "scores.zarr", Settings(block=2)

    def stop(count: int, total: int) -> None:
        if count == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        statistics(forecasts + 1, analyses, settings=settings, store=path, progress=stop)
    sums = statistics(forecasts, analyses, settings=settings, store=path)
    del sums.attrs["scored_with"]
    xr.testing.assert_identical(sums, statistics(forecasts, analyses, settings=settings))


def test_observations_that_come_later_are_scored_and_enter_the_maps_once(
    forecasts, analyses, references, tmp_path
):
    settings = Settings(block=2, maps=True, fields=(EnergyScore(lead_time=True),))
    arguments = {"reference": {"persistence": references["persistence"]}, "settings": settings}
    forecasts = forecasts[["2m_temperature"]]
    path, told = tmp_path / "scores.zarr", []
    for known in (55, 52, 58):  # of what the initial times 48 to 54 need, to 57; never less
        early = analyses.isel(time=slice(known))
        sums = statistics(
            forecasts, early, store=path, progress=lambda n, total: told.append(total), **arguments
        )
        shown = max(known, 55)
        expected = statistics(forecasts, analyses.isel(time=slice(shown)), **arguments)
        assert_same(sums.drop_attrs(deep=False), expected.drop_attrs(deep=False))
    assert told == [7, 7, 7, 7, 3, 3]
    assert scores_from(sums)["missing_valid_times"].sum() == 0


def test_what_a_killed_run_left_while_it_published_is_used_or_removed(
    forecasts, analyses, tmp_path, monkeypatch
):
    path, settings = tmp_path / "scores.zarr", Settings(block=2, maps=True)
    statistics(forecasts.isel(init_time=slice(3)), analyses, settings=settings, store=path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *a, **k: None)  # killed before: parts stay
        statistics(forecasts.isel(init_time=slice(5)), analyses, settings=settings, store=path)
    assert list(tmp_path.glob(".scores.zarr.*.parts/*.npz"))
    (tmp_path / ".scores.zarr.0123abcd.partial").mkdir()
    path.rename(tmp_path / ".scores.zarr.0123abcd.former")  # killed between two renames
    told: list[int] = []
    sums = statistics(
        forecasts, analyses, settings=settings, store=path,
        progress=lambda done, total: told.append(total),
    )  # fmt: skip
    assert told == [2]
    del sums.attrs["scored_with"]
    assert_same(sums, statistics(forecasts, analyses, settings=settings))


def test_a_damaged_part_is_named(forecasts, analyses, tmp_path):
    path = tmp_path / "scores.zarr"

    def stop(count: int, total: int) -> None:
        if count == 4:
            raise KeyboardInterrupt

    settings = Settings(block=2)
    with pytest.raises(KeyboardInterrupt):
        statistics(forecasts, analyses, settings=settings, store=path, progress=stop)
    (part,) = tmp_path.glob(".scores.zarr.*.parts/*.npz")
    part.write_bytes(part.read_bytes()[:5000])
    with pytest.raises(StorageError, match="damaged"):
        statistics(forecasts, analyses, settings=settings, store=path)


def test_two_runs_do_not_write_one_store_at_once(forecasts, analyses, tmp_path):
    path = tmp_path / "scores.zarr"
    with locked(path), pytest.raises(LockedError, match="Another process"):
        evaluate(forecasts, analyses, store=path)


def test_scoring_while_sampling_gives_the_bits_of_scoring_what_was_stored(
    forecasts, analyses, references, everything
):
    stored = statistics(forecasts, analyses, reference=references, settings=everything)
    leads = forecasts["lead_time"].values
    matched = match_blocks(
        forecasts.isel(init_time=[0], lead_time=[0, 1]),
        analyses,
        init_times=forecasts["init_time"].values,
        lead_times=leads,
        reference=references,
        settings=everything,
    )
    for init in (0, 5):
        one = forecasts.isel(init_time=[init])
        blocks = (one.isel(lead_time=lead) for lead in (slice(0, 2), slice(2, 3)))
        sums = score_blocks(matched.select(slice(init, init + 1)), blocks)
        expected = stored.isel(init_time=[init])
        for name in sums.data_vars:
            if str(name).startswith("sum_"):
                xr.testing.assert_identical(sums[name], expected[name])
    with pytest.raises(InputError, match="lead times"):
        score_blocks(matched.select(slice(0, 1)), [forecasts.isel(init_time=[0], lead_time=[0])])
    with pytest.raises(InputError, match="expected"):
        score_blocks(matched.select(slice(0, 1)), [forecasts.isel(init_time=[1])])
