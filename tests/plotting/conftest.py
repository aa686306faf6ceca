"""Scores and comparisons with everything that can be drawn, made from simulated ensembles."""

from html import escape

import numpy as np
import pytest
import xarray as xr
from scipy.special import ndtri

HOUR = np.timedelta64(3_600_000_000_000, "ns")
UNITS = {"2m_temperature": "K", "mean_sea_level_pressure": "Pa", "geopotential_500": "m**2 s**-2"}


def rich_scores(
    *, variables=tuple(UNITS), leads=(6, 12, 24, 48), members=10, regions=(), seasons=(), seed=0
):
    """Scores whose size grows with lead; each part of the data obeys the laws it should."""
    rng = np.random.default_rng(seed)
    growth = 1 - np.exp(-(np.arange(len(leads)) + 1) / len(leads) * 1.5)
    scale = {"K": 3.0, "Pa": 600.0, "m**2 s**-2": 900.0}
    units = [UNITS.get(name, "K") for name in variables]
    size = np.array([scale[unit] for unit in units])[:, None] * growth
    dims = ("variable", "lead_time")
    coords = {
        "variable": list(variables),
        "units": ("variable", units),
        "lead_time": np.array(leads) * HOUR,
        "rank": np.arange(members + 1),
        "count": np.arange(members + 1),
    }
    for name, values in (("region", regions), ("season", seasons)):
        if values:
            dims = (name, *dims)
            coords[name] = list(values)
            size = size * np.linspace(1, 1.5, len(values)).reshape(-1, *[1] * size.ndim)

    def near(value, width=0.03):
        return value * (1 + width * rng.normal(size=size.shape))

    over, under, dispersion = near(0.5 * size), near(0.45 * size), near(0.5 * size)
    crps = over + under - dispersion
    ratio = near(np.full(size.shape, 0.95), 0.1)
    data = {
        "crps": crps,
        "over": over,
        "under": under,
        "dispersion": dispersion,
        "crps_reliability": near(0.04 * size),
        "crps_uncertainty": near(0.6 * size[..., -1:] + 0 * size, 0.01),
        "rmse": near(size),
        "spread": near(0.9 * size),
        "spread_skill_ratio": ratio,
        "bias": near(0.1 * size, 0.3),
        "coverage": np.ones(size.shape),
        "energy_score": near(0.7 * size),
        "energy_score_climatology": near(0.8 * size[..., -1:] + 0 * size),
        "energy_skill_climatology": near(0.2 + 0 * size),
        "variogram_score": near(size**2),
    }
    data["crps_resolution"] = data["crps_reliability"] + data["crps_uncertainty"] - crps
    for name, worse in (
        ("climatology", 0.6 * size[..., -1:] + 0 * size),
        ("persistence", 0.9 * size),
    ):
        data[f"crps_{name}"] = near(worse)
        data[f"crpss_{name}"] = 1 - crps / data[f"crps_{name}"]
    scores = xr.Dataset({name: (dims, values) for name, values in data.items()}, coords)
    scores["rank_histogram"] = (
        (*dims, "rank"),
        rng.dirichlet(np.full(members + 1, 60.0), size.shape),
    )
    scores["missing_valid_times"] = ("lead_time", np.zeros(len(leads), int))
    scale_of = coords_of_scale = np.array([100.0, 250.0, 500.0, 1000.0])
    scores["crps_by_scale"] = scores["crps"] * xr.DataArray(
        (scale_of / 100) ** -0.3, {"scale": ("scale", coords_of_scale, {"units": "km"})}, "scale"
    )
    scores["crps_by_scale_climatology"] = scores["crps_climatology"] * xr.DataArray(
        (scale_of / 100) ** -0.15, {"scale": scores["scale"]}, "scale"
    )
    scores["crpss_by_scale_climatology"] = (
        1 - scores["crps_by_scale"] / scores["crps_by_scale_climatology"]
    )
    joint = scores["energy_score"].isel(lead_time=-1, drop=True)
    scores["energy_score_lead_time"] = 1.5 * joint
    scores["energy_score_lead_time_climatology"] = 2 * joint
    scores["energy_skill_lead_time_climatology"] = 0.25 + 0 * joint
    scores = scores.merge(_events(scores["crps"], growth, members, rng))
    scores = scores.merge(_powers(variables, len(leads), growth, scale, units))
    scores = scores.merge(_maps(variables, size.reshape(-1, *size.shape[-2:])[0], members, rng))
    return scores.assign_attrs(
        members=members,
        estimator="fair",
        inits=60,
        period="2018-06-01T00:00:00/2018-07-30T00:00:00",
        references=["climatology", "persistence"],
    )


def _events(like, growth, members, rng, cases=4000):
    """Event tables of an ensemble that is a little too confident."""
    events = ["above_p90", "below_p10"]
    shape = (*like.shape, len(events), members + 1)
    count, occurred = np.zeros(shape), np.zeros(shape)
    for position in np.ndindex(like.shape):
        noise = growth[position[-1]]
        signal = rng.normal(size=cases) * np.sqrt(1 - noise**2)
        observed = signal + noise * rng.normal(size=cases)
        ensemble = signal[:, None] + 0.8 * noise * rng.normal(size=(cases, members))
        weight = rng.uniform(0.5, 1.5, cases)
        for event, sign in enumerate((1, -1)):
            inside = (sign * ensemble > ndtri(0.9)).sum(axis=1)
            happened = sign * observed > ndtri(0.9)
            count[(*position, event)] = np.bincount(inside, weight, members + 1)
            occurred[(*position, event)] = np.bincount(inside, weight * happened, members + 1)
    dims = (*like.dims, "event", "count")
    base_rate = occurred.sum(axis=-1) / count.sum(axis=-1)
    windows = np.array([1, 3, 5, 9])
    of_grid = base_rate.reshape(-1, *base_rate.shape[-3:])[0]
    skill = 1 - (1 - of_grid[..., None]) * growth[:, None, None] / windows**0.5
    return xr.Dataset(
        {
            "event_count": (dims, count),
            "event_occurred": (dims, occurred),
            "base_rate": (dims[:-1], base_rate),
            "fractions_skill_score": (("variable", "lead_time", "event", "window"), skill),
        },
        {"event": events, "window": windows},
    )


def _powers(variables, leads, growth, scale, units):
    wavenumber = np.arange(1, 17)
    size = np.array([scale[unit] for unit in units])[:, None, None]
    observed = size**2 * wavenumber**-3.0 * np.ones((1, leads, 1))
    members = observed * (1 + 0.02 * wavenumber * growth[:, None])
    mean = observed * np.exp(-0.25 * wavenumber * growth[:, None])
    dims = ("variable", "lead_time", "wavenumber")
    return xr.Dataset(
        {
            "power_observation": (dims, observed),
            "power_members": (dims, members),
            "power_mean": (dims, mean),
        },
        {"wavenumber": wavenumber},
    )


def _maps(variables, size, members, rng):
    grid = {"latitude": np.arange(50.25, 60, 0.5), "longitude": np.arange(-9.75, 4, 0.5)}
    north, east = (values / np.ptp(values) for values in np.meshgrid(*grid.values(), indexing="ij"))
    pattern = 1 + 0.4 * np.sin(5 * north) * np.cos(4 * east)
    noise = 1 + 0.05 * rng.normal(size=(*size.shape, *pattern.shape))
    field = size[..., None, None] * pattern * noise
    land = np.ones(pattern.shape)
    land[:8, :6] = land[12:15, 18:24] = 0
    weight = 60 * land * np.ones(field.shape)
    wave = np.sin(8 * east + 3 * north)
    means = {
        "over": 0.5 * field,
        "under": 0.45 * field,
        "dispersion": 0.5 * field,
        "error": 0.2 * size[..., None, None] * wave * noise,
        "squared_error": field**2,
        "variance": (field * (1 + 0.3 * wave)) ** 2 * members / (members + 1),
        "crps_climatology": 0.6 * size[:, -1:, None, None] * noise,
        "crps_persistence": 0.5 * field * (1 + 0.3 * wave),
    }
    dims = ("variable", "lead_time", *grid)
    maps = {f"map_{name}": (dims, mean * weight) for name, mean in means.items()}
    return xr.Dataset(maps | {"map_weight": (dims, weight)}, grid)


def rich_comparison(*, variables=tuple(UNITS), leads=(6, 12, 24, 48), regions=(), seed=0):
    """What a comparison of two forecasts looks like, the first better at short leads."""
    rng = np.random.default_rng(seed)
    dims, shape = ("variable", "lead_time"), (len(variables), len(leads))
    coords = {"variable": list(variables), "lead_time": np.array(leads) * HOUR}
    if regions:
        dims, shape = ("variable", "region", "lead_time"), (shape[0], len(regions), shape[1])
        coords["region"] = list(regions)
    relative = np.linspace(-0.2, 0.1, len(leads)) + 0.05 * rng.normal(size=shape)
    second = np.full(shape, 2.0)
    p_value = np.exp(-np.abs(relative) / 0.02)
    data = {
        "first": second * (1 + relative),
        "second": second,
        "difference": second * relative,
        "relative_difference": relative,
        "lower": second * (relative - 0.05),
        "upper": second * (relative + 0.05),
        "p_value": p_value,
        "q_value": np.minimum(1, 1.5 * p_value),
        "significant": p_value < 0.03,
        "effective_sample_size": np.full(shape, 40.0),
        "pairs": np.full(shape, 60),
    }
    comparison = xr.Dataset({name: (dims, values) for name, values in data.items()}, coords)
    return comparison.assign_attrs(score="crps", better="lower", level=0.95)


@pytest.fixture(scope="session", name="rich_scores")
def _rich_scores():
    return rich_scores


@pytest.fixture(scope="session", name="rich_comparison")
def _rich_comparison():
    return rich_comparison


@pytest.fixture(scope="module")
def unrendered():
    """Leave the layout and drawing of a page's pictures away; the pictures' own tests have them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("weatherdiff.report.exhibits.picture", _placeholder)
        yield


def _placeholder(figure, *, alt, caption=""):
    assert figure.axes
    return (
        f'<figure><img src="data:image/png;base64," alt="{escape(alt)}">{escape(caption)}</figure>'
    )


@pytest.fixture(scope="session")
def render():
    """Lay a figure out and draw each of its artists, once, without paint."""
    return lambda figure: figure.draw_without_rendering()
