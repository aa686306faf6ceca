"""Scores of whole fields in the streaming pass are those of the functions of arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.evaluation import (
    CRPSByScale,
    EnergyScore,
    Event,
    FractionsSkillScore,
    Persistence,
    PowerSpectra,
    Settings,
    VariogramScore,
    crps_by_scale,
    energy_score,
    evaluate,
    fractions_skill_score,
    power_spectra,
    variogram_score,
)
from weatherdiff.grid import Grid

LEADS = np.array([24, 48], "timedelta64[h]").astype("timedelta64[ns]")
THRESHOLD = 280.5
SCALES = (("t", 1.5), ("z", 40.0))
FIELDS = (
    EnergyScore(),
    EnergyScore(lead_time=True),
    EnergyScore(lead_time=True, variable=True, scales=SCALES),
    VariogramScore(),
    CRPSByScale((1, 2, 3)),
    FractionsSkillScore((1, 3)),
)


class Case(NamedTuple):
    forecasts: xr.Dataset
    analyses: xr.Dataset
    settings: Settings

    @property
    def observed(self) -> xr.Dataset:
        """Analyses at the valid times, (init_time, lead_time, latitude, longitude)."""
        valid = self.forecasts["init_time"] + self.forecasts["lead_time"]
        return self.analyses.sel(time=valid).drop_vars("time").transpose(*valid.dims, ...)

    @property
    def persisted(self) -> xr.Dataset:
        """Analyses at the initial times as an ensemble of one."""
        at_init = self.analyses.rename(time="init_time").sel(init_time=self.forecasts["init_time"])
        return at_init.expand_dims(lead_time=self.forecasts["lead_time"], number=1)

    def scores(self) -> xr.Dataset:
        reference = {"persistence": Persistence(self.analyses)}
        return evaluate(self.forecasts, self.analyses, reference=reference, settings=self.settings)


def make(latitude: np.ndarray, longitude: np.ndarray, nan: str = "propagate") -> Case:
    """Two variables, three initial times, two leads, four members; a region smaller than all."""
    rng = np.random.default_rng(5)
    cells = {"latitude": latitude, "longitude": longitude}
    time = np.arange("2020-01-01", "2020-01-08", dtype="datetime64[D]").astype("datetime64[ns]")
    size = (latitude.size, longitude.size)
    dims = ("time", *cells)
    members = ("init_time", "lead_time", "number", *cells)
    analyses = xr.Dataset(
        {
            "t": (dims, 280 + rng.normal(size=(7, *size)), {"units": "K"}),
            "z": (dims, 5e4 + 40 * rng.normal(size=(7, *size)), {"units": "m**2 s**-2"}),
        },
        {"time": time, **cells},
    )
    forecasts = xr.Dataset(
        {
            "t": (members, 280.3 + rng.normal(size=(3, 2, 4, *size)), {"units": "K"}),
            "z": (members, 5e4 + 40 * rng.normal(size=(3, 2, 4, *size)), {"units": "m**2 s**-2"}),
        },
        {"init_time": time[1:4], "lead_time": LEADS, "number": np.arange(4), **cells},
    )
    area = Grid.from_dataset(analyses).area_weights()
    north = xr.ones_like(area).where(area["latitude"] > 20, 0.0)
    settings = Settings(
        nan=nan,
        regions=north.expand_dims(region=["north"]),  # not with the whole grid
        events=(Event("t", THRESHOLD),),
        fields=FIELDS,
    )
    return Case(forecasts.astype(np.float32), analyses.astype(np.float32), settings)


def whole_globe() -> Case:
    case = make(np.linspace(-80, 80, 9), np.arange(0.0, 360, 30))
    fields = (*FIELDS, PowerSpectra())
    return case._replace(settings=Settings(**{**vars(case.settings), "fields": fields}))


def masked_region() -> Case:
    case = make(np.array([-10.0, 5, 21, 33, 60]), np.array([-9.0, -4, 0, 8, 9, 15]))
    land = xr.DataArray(
        np.random.default_rng(1).random((5, 6)) > 0.2, dims=("latitude", "longitude")
    )
    return case._replace(forecasts=case.forecasts.where(land), analyses=case.analyses.where(land))


def north(case: Case) -> xr.DataArray:
    """Weights of the region."""
    return Grid.from_dataset(case.analyses).area_weights() * case.settings.regions.isel(region=0)


def assert_equal(ours: xr.DataArray, theirs: xr.DataArray) -> None:
    np.testing.assert_allclose(ours.values, theirs.transpose(*ours.dims).values, rtol=1e-9)


@pytest.mark.parametrize("make_case", [whole_globe, masked_region])
def test_scores_of_fields_are_the_means_of_those_of_arrays(make_case):
    case = make_case()
    scores, observed, weights = case.scores(), case.observed, north(case)
    joint = ("lead_time", "latitude", "longitude")
    for name in ("t", "z"):
        ours = scores.sel(variable=name)
        for suffix, forecast, estimator in (
            ("", case.forecasts[name], "fair"),
            ("_persistence", case.persisted[name], "standard"),
        ):
            y, options = observed[name], {"estimator": estimator}
            space = energy_score(forecast, y, weights=weights, **options).mean("init_time")
            assert_equal(ours[f"energy_score{suffix}"], space)
            film = energy_score(forecast, y, weights=weights, over=joint, **options)
            assert_equal(ours[f"energy_score_lead_time{suffix}"], film.mean("init_time"))
            rough = variogram_score(forecast, y, **options).mean("init_time")
            assert_equal(ours[f"variogram_score{suffix}"], rough)
            scaled = crps_by_scale(forecast, y, scales=(1, 2, 3), **options).mean("init_time")
            assert_equal(ours[f"crps_by_scale{suffix}"], scaled)
    fractions = fractions_skill_score(
        case.forecasts["t"], observed["t"], threshold=THRESHOLD, windows=(1, 3), pool="init_time"
    )
    event = scores["fractions_skill_score"].sel(variable="t", event=f"t>{THRESHOLD}")
    assert_equal(event, fractions)
    every = energy_score(
        case.forecasts, observed, weights=weights, over=("variable", *joint), scales=dict(SCALES)
    )
    assert_equal(scores["energy_score_lead_time_variable"], every.mean("init_time"))


def test_spectra_are_the_means_of_those_of_arrays_and_need_whole_fields():
    case = whole_globe()
    scores = case.scores()
    for name in ("t", "z"):
        spectra = power_spectra(case.forecasts[name], case.observed[name]).mean("init_time")
        for ours, theirs in (("members", "members"), ("mean", "ensemble_mean"),
                             ("observation", "observation")):  # fmt: skip
            assert_equal(scores[f"power_{ours}"].sel(variable=name), spectra[theirs])
    case.analyses["t"][3, 2, 4] = np.nan  # valid for one initial time at each lead
    fewer = case.scores()
    assert fewer["sum_power_weight"].sel(variable="t").sum() == 4
    assert np.isfinite(fewer["power_observation"]).all()


@pytest.mark.parametrize("make_case", [whole_globe, masked_region])
def test_omitted_cells_are_as_if_never_observed(make_case):
    case = make_case()
    one = case.forecasts.isel(init_time=[1])
    gone = (case.forecasts["latitude"] == case.forecasts["latitude"][-2]) & (
        case.forecasts["longitude"] > case.forecasts["longitude"][3]
    )
    settings = Settings(**{**vars(case.settings), "nan": "omit", "fields": FIELDS})
    holed = one.where(~(gone & (one["number"] == 2)))
    omitted = evaluate(holed, case.analyses, settings=settings)
    unseen = evaluate(one, case.analyses.where(~gone), settings=settings)
    for name in ("energy_score", "energy_score_lead_time", "energy_score_lead_time_variable",
                 "variogram_score", "crps_by_scale", "fractions_skill_score", "crps"):  # fmt: skip
        assert np.isfinite(unseen[name].sel(variable="t") if "variable" in unseen[name].dims
                           else unseen[name]).all(), name  # fmt: skip
        np.testing.assert_allclose(omitted[name], unseen[name], rtol=1e-12, err_msg=name)
    with_nan = evaluate(
        holed, case.analyses, settings=Settings(**{**vars(settings), "nan": "propagate"})
    )
    for name in ("energy_score", "energy_score_lead_time", "variogram_score",
                 "fractions_skill_score"):  # fmt: skip
        assert with_nan[name].sel(variable="t").isnull().all(), name


def test_fractions_take_the_threshold_of_each_place_and_day():
    case = masked_region()
    rng = np.random.default_rng(2)
    days = np.arange(1, 32)
    field = xr.DataArray(
        280 + rng.normal(size=(31, 5, 6)),
        {"dayofyear": days, **case.analyses["t"].isel(time=0, drop=True).coords},
        ("dayofyear", "latitude", "longitude"), attrs={"units": "K"},
    )  # fmt: skip
    event = Event("t", field, label="warm", above=False)
    settings = Settings(events=(event,), fields=(FractionsSkillScore((1, 3)),))
    scores = evaluate(case.forecasts, case.analyses, settings=settings)
    valid = case.forecasts["init_time"] + case.forecasts["lead_time"]
    threshold = field.sel(dayofyear=valid.dt.dayofyear).drop_vars("dayofyear")
    expected = fractions_skill_score(
        case.forecasts["t"] - threshold, case.observed["t"] - threshold, threshold=0.0,
        windows=(1, 3), above=False, pool="init_time",
    )  # fmt: skip
    assert_equal(scores["fractions_skill_score"].sel(variable="t", event="warm"), expected)


def test_what_cannot_be_scored_is_refused():
    case = masked_region()
    for fields, words in (
        ((FractionsSkillScore(),), "needs events"),
        ((CRPSByScale((2, 0)),), "at least one cell"),
        ((EnergyScore(variable=True, scales=(("t", 1.0),)),), "positive scale of z"),
    ):
        with pytest.raises(InputError, match=words):
            evaluate(case.forecasts, case.analyses, settings=Settings(fields=fields))
