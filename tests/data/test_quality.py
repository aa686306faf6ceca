"""Quality control: faults that are put in are found, sound data raise no alarm."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherdiff import open_fields
from weatherdiff.data.append import append
from weatherdiff.data.prepare import prepare
from weatherdiff.data.quality import Looker, examination, survey
from weatherdiff.data.quality.looks import NUMBERS
from weatherdiff.data.quality.neighbours import Change, Layout
from weatherdiff.data.quality.rules import ANYTHING, Range, levels_out_of_order, range_of
from weatherdiff.data.simulator import BetaPlaneChannel, LinearStochasticField
from weatherdiff.data.store import FieldStore
from weatherdiff.errors import ConfigError, InputError

SETTINGS = {"training_period": ("2018-06-01", "2018-06-20"), "step": "6h", "frames": 2}
AT = 130  # of the 244 six-hourly frames of the sample
WHEN = "2018-07-03T12:00Z"


@pytest.fixture(scope="module")
def sample():
    """Two months of four variables, six-hourly; the sea has no data."""
    return open_fields("sample:uk-2018").isel(time=slice(0, None, 6)).load()


@pytest.fixture(scope="module")
def channel():
    """A chaotic channel without missing values."""
    return BetaPlaneChannel(shape=(16, 32), latitudes=(20, 70)).simulate(100, seed=0)


def one(ds, name):
    return ds[[name]].copy(deep=True)


def found(ds):
    return {(f.variable, f.check): f for f in survey(ds).findings}


def cell(ds, name):
    """A cell that has data."""
    return np.argwhere(np.isfinite(ds[name].values[0]))[5]


# -- what sound data give ------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [1, 6, 24])
def test_the_sample_raises_no_alarm(hours):
    assert not survey(open_fields("sample:uk-2018").isel(time=slice(0, None, hours))).findings


def test_the_simulators_raise_no_alarm(channel):
    assert not survey(channel).findings
    assert not survey(LinearStochasticField(shape=(16, 32)).simulate(300, seed=1)).findings


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(20))
def test_weather_of_many_seeds_raises_no_alarm(seed):
    for ds in (
        BetaPlaneChannel(shape=(16, 32), latitudes=(20, 70)).simulate(120, seed=seed),
        LinearStochasticField(shape=(16, 32)).simulate(400, seed=seed),
    ):
        assert not survey(ds).findings


def test_rain_with_a_heavy_tail_has_no_jumps():
    rng = np.random.default_rng(0)
    rain = rng.gamma(0.1, 1e-4, size=(600, 6, 8)).astype("f4")
    time = np.datetime64("2020-01-01", "ns") + np.arange(600) * np.timedelta64(6, "h")
    ds = xr.Dataset(
        {"precipitation_flux": (("time", "latitude", "longitude"), rain)},
        {"time": time, "latitude": np.arange(6.0), "longitude": np.arange(8.0)},
    )
    ds["precipitation_flux"].attrs["units"] = "kg m**-2 s**-1"
    assert not survey(ds).findings


# -- each kind of fault --------------------------------------------------------------------------


def turned(axis, stop):
    def change(x):
        x[AT:stop] = np.flip(x[AT:stop], axis).copy()

    return change


def rolled(stop):
    def change(x):
        x[AT:stop] = np.roll(x[AT:stop], x.shape[2] // 2, 2)

    return change


def repeated(x):
    x[AT] = x[AT - 1]


def copied_from_afar(x):
    x[AT] = x[AT - 100]


def scaled(factor, offset, stop):
    def change(x):
        x[AT:stop] = x[AT:stop] * factor + offset

    return change


FAULTS = {
    "south and north, one frame": ("surface_pressure", turned(1, AT + 1), "flipped", 1),
    "south and north, some frames": ("2m_temperature", turned(1, AT + 7), "flipped", 7),
    "south and north, from then on": ("2m_temperature", turned(1, None), "flipped", 114),
    "east and west": ("2m_specific_humidity", turned(2, AT + 3), "flipped", 3),
    "rolled": ("surface_pressure", rolled(AT + 3), "shifted", 3),
    "rolled from then on": ("2m_temperature", rolled(None), "shifted", 114),
    "the frame before": ("2m_temperature", repeated, "repeated", 1),
    "a frame of another month": ("surface_pressure", copied_from_afar, "repeated", 1),
    "degC from then on": ("2m_temperature", scaled(1, -273.15, None), "units", 114),
    "hPa for a day": ("surface_pressure", scaled(0.01, 0, AT + 4), "units", 4),
    "a jump": ("surface_pressure", scaled(1, 4000, AT + 1), "jump", 1),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_data_of_the_land_is_found_where_it_is(sample, fault):
    name, change, check, times = FAULTS[fault]
    ds = one(sample, name)
    change(ds[name].values)
    finding = found(ds)[name, check]
    assert (finding.times, finding.first) == (times, WHEN)
    bad = survey(ds).bad[:, 0]
    assert bad.sum() >= times
    assert np.flatnonzero(bad)[0] == AT
    assert not bad[: AT - 1].any()


@pytest.mark.parametrize("name", ["geopotential", "temperature", "u_component_of_wind"])
@pytest.mark.parametrize("stop", [51, 56, None])
def test_a_channel_turned_over_is_found_without_a_coast(channel, name, stop):
    ds = one(channel, name)
    x = ds[name].values
    x[50:stop] = x[50:stop, ..., ::-1, :].copy()
    findings = [f for (_, check), f in found(ds).items() if check == "flipped"]
    assert findings
    assert {f.times for f in findings} == {len(x[50:stop])}


@pytest.mark.parametrize(
    ("value", "check", "fraction"),
    [(np.nan, "missing", 1 / 275), (np.inf, "infinite", 1 / 616), (1e20, "range", 1 / 616),
     (-999.0, "range", 1 / 616)],
)  # fmt: skip
def test_a_bad_value_is_found_with_its_fraction(sample, value, check, fraction):
    ds = one(sample, "2m_temperature")
    i, j = cell(ds, "2m_temperature")
    ds["2m_temperature"].values[AT, i, j] = value
    finding = found(ds)["2m_temperature", check]
    assert (finding.times, finding.first, finding.last) == (1, WHEN, WHEN)
    assert finding.fraction == pytest.approx(fraction, rel=1e-3)
    assert set(found(ds)) == {("2m_temperature", check)}


def test_levels_that_were_exchanged_are_found(channel):
    ds = channel[["geopotential"]].copy(deep=True)
    if "level" not in ds.dims or ds.sizes["level"] < 2:
        ds = xr.concat(
            [ds.assign_coords(level=500.0) + 4e4, ds.assign_coords(level=850.0)], "level"
        ).transpose("time", "level", "latitude", "longitude")
        ds["geopotential"].attrs["units"] = "m**2 s**-2"
    clean = {check for _, check in found(ds)}
    ds["geopotential"].values[40] = ds["geopotential"].values[40, ::-1].copy()
    assert "levels" not in clean
    assert "levels" in {check for _, check in found(ds)}


@given(
    st.integers(10, 230),
    st.sampled_from(["2m_temperature", "surface_pressure", "2m_specific_humidity"]),
    st.sampled_from(["ns", "ew", "roll", "repeat", "nan", "inf"]),
)
@settings(max_examples=6, deadline=None)
def test_a_fault_is_found_wherever_it_is(sample, at, name, kind):
    ds = one(sample.isel(longitude=slice(0, 20)), name)
    x = ds[name].values
    i, j = cell(ds, name)
    if kind == "ns":
        x[at] = x[at, ::-1].copy()
    elif kind == "ew":
        x[at] = x[at, :, ::-1].copy()
    elif kind == "roll":
        x[at] = np.roll(x[at], 7, 1)
    elif kind == "repeat":
        x[at] = x[at - 1]
    else:
        x[at, i, j] = np.nan if kind == "nan" else np.inf
    expected = {"ns": "flipped", "ew": "flipped", "roll": "shifted", "repeat": "repeated",
                "nan": "missing", "inf": "infinite"}[kind]  # fmt: skip
    assert found(ds)[name, expected].times == 1


# -- looks ---------------------------------------------------------------------------------------


@given(
    st.integers(2, 40), st.integers(2, 32), st.booleans(), st.booleans(), st.integers(0, 31),
    st.integers(0, 2**31),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_a_look_turns_with_the_fields(rows, columns, south_north, east_west, roll, seed):
    rng = np.random.default_rng(seed)
    fields = rng.normal(size=(2, 1, rows, columns)).astype("f4")
    fields[:, :, rng.random((rows, columns)) < 0.2] = np.nan
    looker = Looker((ANYTHING,), np.ones(rows, np.float32), columns)
    layout = Layout(looker.rows, looker.meridians)
    change = Change(south_north, east_west, roll % columns, 2.0, 3.0)
    other = fields[..., ::-1, :] if south_north else fields
    other = other[..., ::-1] if east_west else other
    other = np.roll(other, roll % columns, -1) * np.float32(2) + np.float32(3)
    first = len(NUMBERS)
    before, after = (looker.look(np.ascontiguousarray(f))[..., first:] for f in (fields, other))
    np.testing.assert_allclose(layout.turn(before, change), after, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(layout.back(after, change), before, rtol=1e-4, atol=1e-3)


def test_a_look_is_what_numpy_says():
    rng = np.random.default_rng(0)
    fields = rng.normal(size=(7, 2, 5, 9)).astype("f4")
    fields[3, 0, 1:3] = np.nan
    fields[4, 1, 2, 2] = 50
    known = Range(-10, 10, -1, 1, "")
    heights = np.arange(1, 6, dtype=np.float32)
    looks = Looker((known, known), heights, 9).look(fields)
    number = {n: looks[..., i] for i, n in enumerate(NUMBERS)}
    np.testing.assert_allclose(number["missing"], np.isnan(fields).mean((2, 3)), rtol=1e-6)
    np.testing.assert_array_equal(number["minimum"], np.nanmin(fields, (2, 3)))
    np.testing.assert_array_equal(number["maximum"], np.nanmax(fields, (2, 3)))
    weights = np.where(np.isnan(fields), 0, heights[:, None])
    mean = np.nansum(fields * weights, (2, 3)) / weights.sum((2, 3))
    np.testing.assert_allclose(number["mean"], mean, rtol=1e-4, atol=1e-5)
    assert number["outside"][4, 1] == pytest.approx(1 / 45)
    assert number["worst"][4, 1] == 50
    assert number["outside"].sum() == number["outside"][4, 1]


@given(st.lists(st.integers(1, 29), max_size=4))
@settings(max_examples=8, deadline=None)
def test_looks_of_parts_are_those_of_the_whole(cuts):
    rng = np.random.default_rng(1)
    fields = rng.normal(size=(30, 2, 6, 40)).astype("f4")
    fields[7, 1, 2] = np.nan
    looker = Looker((ANYTHING, ANYTHING), np.ones(6, np.float32), 40)
    parts = [looker.look(part) for part in np.split(fields, sorted(cuts))]
    assert np.concatenate(parts).tobytes() == looker.look(fields).tobytes()


def test_the_parts_in_which_a_record_is_examined_change_little(sample, monkeypatch):
    ds = one(sample, "surface_pressure")
    ds["surface_pressure"].values[AT:] = ds["surface_pressure"].values[AT:, ::-1].copy()
    whole = survey(ds)
    monkeypatch.setattr(examination, "PART_BYTES", 1)
    monkeypatch.setattr(examination, "FEWEST", 60)
    parts = survey(ds)
    np.testing.assert_array_equal(whole.bad, parts.bad)
    assert [f.check for f in parts.findings] == [f.check for f in whole.findings]


def test_ranges_are_known_by_name_by_standard_name_and_by_units():
    assert range_of("surface_pressure", {"units": "Pa"}).low == pytest.approx(-800)
    wind = range_of("gust_of_mine", {"units": "knots", "standard_name": "wind_speed"})
    assert wind.high == pytest.approx(150 / 0.514444, rel=1e-4)
    assert range_of("mine", {"units": "hPa"}).high == pytest.approx(2000)
    for units in ("1", "", "sverdrup"):
        assert (
            range_of("mine", {"units": units}) == Range(-np.inf, np.inf, -np.inf, np.inf, "")
            or range_of("mine", {"units": units}).low == -np.inf
        )


def test_the_order_of_levels_is_seen_whatever_the_order_they_are_stored_in():
    levels = np.array([850.0, 300.0, 500.0, 1000.0])
    heights = np.array([1.4e4, 9e4, 5.4e4, 1e3])
    assert not levels_out_of_order("geopotential", levels, heights).any()
    assert levels_out_of_order("geopotential", levels, heights[[1, 0, 2, 3]]).any()
    assert not levels_out_of_order("vorticity", levels, heights[::-1]).any()
    assert not levels_out_of_order("temperature", levels, np.array([280, np.nan, 250, 1])).any()


# -- preparing -----------------------------------------------------------------------------------


def spoilt(sample):
    """Two variables, of which one is turned over twice and once has a value of 1e20."""
    ds = sample[["2m_temperature", "surface_pressure"]].copy(deep=True)
    x = ds["surface_pressure"].values
    x[20:22] = x[20:22, ::-1].copy()
    i, j = cell(ds, "2m_temperature")
    ds["2m_temperature"].values[200, i, j] = 1e20
    return ds


def test_what_is_found_is_told_and_kept_in_the_manifest(sample, tmp_path, caplog):
    ds = spoilt(sample)
    ds["surface_pressure"].values[20:22] = sample["surface_pressure"].values[20:22]  # no coast
    store = prepare(ds, tmp_path / "fields.zarr", **SETTINGS)
    (row,) = store.metadata["quality"]
    assert (row["variable"], row["check"], row["times"]) == ("2m_temperature", "range", 1)
    assert "2018-07-21T00:00Z" in caplog.text
    assert "1e+20 K" in caplog.text
    clean = prepare(sample[["2m_temperature"]], tmp_path / "clean.zarr", **SETTINGS)
    assert clean.metadata["quality"] == ()


def test_what_is_found_is_refused_when_asked(sample, tmp_path):
    with pytest.raises(InputError, match=r"2m_temperature at 2018-07-21T00:00Z: .* out of the ra"):
        prepare(spoilt(sample), tmp_path / "fields.zarr", quality="refuse", **SETTINGS)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="quality is 'perhaps'"):
        prepare(sample, tmp_path / "fields.zarr", quality="perhaps", **SETTINGS)


def test_what_is_found_is_made_missing_when_asked(sample, tmp_path, monkeypatch):
    store = prepare(spoilt(sample), tmp_path / "marked.zarr", quality="mark", **SETTINGS)
    assert np.flatnonzero(~store.valid).tolist() == [20, 21, 200]
    expected = sample[["2m_temperature", "surface_pressure"]].copy(deep=True)
    expected["surface_pressure"].values[20:22] = np.nan
    expected["2m_temperature"].values[200] = np.nan
    other = prepare(expected, tmp_path / "other.zarr", **SETTINGS)
    np.testing.assert_array_equal(store.mask, other.mask)
    everything = np.arange(len(store.times))
    np.testing.assert_array_equal(store.read(everything), other.read(everything))
    assert store.normalizer.to_dict() == other.normalizer.to_dict()
    for name, values in store.normalizer.arrays().items():
        np.testing.assert_array_equal(values, other.normalizer.arrays()[name])


def test_infinite_values_are_made_missing_when_asked(sample, tmp_path):
    ds = one(sample, "2m_temperature")
    i, j = cell(ds, "2m_temperature")
    ds["2m_temperature"].values[AT, i, j] = np.inf
    with pytest.raises(InputError, match=rf"time index {AT}, {WHEN}, in 0\.2% of the field"):
        prepare(ds, tmp_path / "fields.zarr", **SETTINGS)
    store = prepare(ds, tmp_path / "fields.zarr", quality="mark", **SETTINGS)
    assert np.flatnonzero(~store.valid).tolist() == [AT]
    assert np.isnan(store.read(np.array([AT]))).all()
    assert [row["check"] for row in store.metadata["quality"]] == ["infinite"]


def test_frames_that_are_added_are_examined_against_those_that_are_there(sample, tmp_path):
    ds = one(sample, "surface_pressure")
    path = tmp_path / "fields.zarr"
    prepare(ds.isel(time=slice(AT)), path, quality="mark", **SETTINGS)
    ds["surface_pressure"].values[AT] = ds["surface_pressure"].values[AT, ::-1].copy()
    store = append(ds, path)
    assert np.flatnonzero(~store.valid).tolist() == [AT]
    (row,) = store.metadata["quality"]
    assert (row["check"], row["times"], row["first"]) == ("flipped", 1, WHEN)
    np.testing.assert_array_equal(
        FieldStore.open(path).read(np.arange(AT)),
        store.channels.stack(ds.isel(time=slice(AT))),
    )
