"""Windows against brute force; periods as people write them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weatherdiff.data.windows import (
    Period,
    WindowSpec,
    find_windows,
    parse_time,
    seconds,
    to_datetime,
)
from weatherdiff.errors import ConfigError


def stamp(text):
    return int(np.datetime64(text, "s").astype(np.int64))


@st.composite
def records(draw):
    """Irregular times with gaps, some frames invalid; a window and a period."""
    times = sorted(draw(st.sets(st.integers(-20, 20), min_size=1, max_size=25)))
    valid = draw(st.lists(st.booleans(), min_size=len(times), max_size=len(times)))
    spec = WindowSpec(*(draw(st.integers(1, 3)) for _ in range(3)))
    start = draw(st.integers(-25, 25))
    period = Period(start, start + draw(st.integers(0, 40)))
    return np.array(times), np.array(valid), spec, period


@given(records(), st.booleans())
def test_windows_are_those_that_brute_force_finds(record, targets):
    times, valid, spec, period = record
    found = find_windows(times, valid, spec, period, targets=targets)
    known = dict(zip(times.tolist(), valid.tolist(), strict=True))
    expected, absent, invalid = [], 0, 0
    for init in times.tolist():
        past = [init - k * spec.step for k in reversed(range(spec.history))]
        ahead = [init + (k + 1) * spec.step for k in range(spec.frames)] if targets else []
        frames = past + ahead
        if not all(period.start <= t <= period.stop for t in [init, *ahead]):
            continue
        if not all(t in known for t in frames):
            absent += times[0] <= frames[0] and frames[-1] <= times[-1]
        elif not all(known[t] for t in frames):
            invalid += 1
        else:
            expected.append((init, frames))
    assert found.init_times.tolist() == [init for init, _ in expected]
    assert times[found.indices].tolist() == [frames for _, frames in expected]
    assert (found.absent, found.invalid, len(found)) == (absent, invalid, len(expected))


@given(records())
def test_windows_of_the_whole_are_those_of_its_parts_and_those_across(record):
    times, valid, spec, period = record
    middle = (period.start + period.stop) // 2
    parts = [Period(period.start, middle), Period(middle + 1, period.stop)]
    inits = [set(find_windows(times, valid, spec, p).init_times.tolist()) for p in (period, *parts)]
    assert not inits[1] & inits[2]
    assert inits[1] | inits[2] <= inits[0]
    reach = spec.frames * spec.step
    assert all(t <= middle < t + reach for t in inits[0] - inits[1] - inits[2])


def test_offsets_and_leads_are_counted_from_the_initial_time():
    spec = WindowSpec(history=3, frames=2, step=10)
    assert spec.offsets.tolist() == [-20, -10, 0, 10, 20]
    assert spec.lead_times.tolist() == [10, 20]


@pytest.mark.parametrize("shape", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, -5)])
def test_a_window_without_extent_is_refused(shape):
    with pytest.raises(ConfigError, match="at least 1"):
        WindowSpec(*shape)


@pytest.mark.parametrize(
    ("start", "stop", "first", "last"),
    [
        ("2018-06-01", "2018-06-02", "2018-06-01T00", "2018-06-02T23:59:59"),
        ("2018", "2019", "2018-01-01T00", "2019-12-31T23:59:59"),
        ("2018-02", "2018-02", "2018-02-01T00", "2018-02-28T23:59:59"),
        ("2018-06-01T06", "2018-06-01T18", "2018-06-01T06", "2018-06-01T18"),
        ("2018-06-01 06:30", "2018-06-01 06:45", "2018-06-01T06:30", "2018-06-01T06:45"),
        ("2018-06-01T00Z", "2018-06-01T06:00:00+00:00", "2018-06-01T00", "2018-06-01T06"),
        ("1969-12-31", "1969-12-31", "1969-12-31T00", "1969-12-31T23:59:59"),
        ("1900-01-01", "1900-12-31", "1900-01-01T00", "1900-12-31T23:59:59"),
        ("June 2018", "OCT 2018", "2018-06-01T00", "2018-10-31T23:59:59"),
        ("1 June 2018", "30 June 2018", "2018-06-01T00", "2018-06-30T23:59:59"),
        ("2018-06-01", "2018-06-01 ", "2018-06-01T00", "2018-06-01T23:59:59"),
    ],
)
def test_a_period_holds_both_its_ends_whole(start, stop, first, last):
    period = Period.parse(start, stop)
    assert (period.start, period.stop) == (stamp(first), stamp(last))
    around = np.array([period.start - 1, period.start, period.stop, period.stop + 1])
    assert period.contains(around).tolist() == [False, True, True, False]


def test_periods_that_follow_each_other_share_no_second():
    first, second = Period.parse("2018-06", "2018-06"), Period.parse("2018-07-01", "2018-07-31")
    assert first.stop + 1 == second.start


@pytest.mark.parametrize(
    ("start", "stop"),
    [
        ("2018-06-02", "2018-06-01"),
        ("2018-13-01", "2018-12-01"),
        ("2018-06-01", "tomorrow"),
        ("", "2018-06-01"),
        ("NaT", "2018-06-01"),
        ("06/01/2018", "2018-12-31"),
        ("2018-06-01", "07-12-2018"),
        ("2018-06-01T00:00+02:00", "2018-06-02"),
        ("2018-06-01", "2018-06-02T00:00-05:00"),
    ],
)
def test_what_is_no_period_in_utc_is_refused(start, stop):
    with pytest.raises(ConfigError) as caught:
        Period.parse(start, stop)
    assert caught.value.exit_code == 78


def test_a_time_that_is_not_exact_is_the_nearest_second():
    for second in (-3600, 0, 21600):
        near = np.datetime64(second, "s") + np.array([-4, 0, 4]).astype("m8[us]")
        assert seconds(near).tolist() == [second] * 3


@given(st.lists(st.integers(-(2**33), 2**33)))
def test_seconds_and_dates_are_two_names_of_a_time(times):
    dates = to_datetime(times)
    assert dates.dtype == "datetime64[ns]"
    assert seconds(dates).tolist() == times


def test_seconds_of_any_resolution_are_the_same():
    for unit in ("D", "h", "s", "us", "ns"):
        assert seconds(np.array(["1969-12-31"], f"datetime64[{unit}]")).tolist() == [-86_400]


@pytest.mark.parametrize(
    "time",
    ["2018-07-20T06", "2018-07-20 06:00", "2018-07-20T08:00+02:00", np.datetime64("2018-07-20T06")],
)
def test_a_time_is_read_in_utc_unless_it_says_otherwise(time):
    assert parse_time(time) == stamp("2018-07-20T06")


@pytest.mark.parametrize("time", ["", "NaT", "noon", "2018-07-32", np.datetime64("NaT")])
def test_what_is_no_time_is_refused(time):
    with pytest.raises(ConfigError, match="Not a time"):
        parse_time(time)


@pytest.mark.parametrize("text", ["12:00", "06", "today", "now", "01/02/2020", "1.2.2020", "Jan 5"])
def test_what_a_reader_may_take_for_another_day_is_no_time(text: str) -> None:
    with pytest.raises(ConfigError, match="Not a time"):
        parse_time(text)
    with pytest.raises(ConfigError, match="Not a date"):
        Period.parse(text, text)
