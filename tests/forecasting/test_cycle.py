"""What is due depends on times alone: none is skipped, none comes twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherdiff.errors import ConfigError
from weatherdiff.forecasting.cycle import Cycle, expired, plan

HOUR, DAY = 3600, 86400
STARTS = st.lists(st.integers(0, 23), min_size=1, unique=True)
TIMES = st.integers(-50 * DAY, 20_000 * DAY)


@settings(deadline=None)
@given(STARTS, TIMES, st.integers(0, 4 * DAY), st.integers(0, 4 * DAY))
def test_spans_that_meet_give_each_initial_time_once(
    hours: list[int], start: int, first: int, second: int
) -> None:
    cycle = Cycle.parse([f"{h:02}" for h in hours])
    whole = cycle.between(start, start + first + 1 + second)
    parts = cycle.between(start, start + first)
    parts += cycle.between(start + first + 1, start + first + 1 + second)
    assert whole == parts == sorted(set(whole))
    hourly = range(-(-start // HOUR) * HOUR, start + first + second + 2, HOUR)
    assert whole == [t for t in hourly if t % DAY // HOUR in hours]


@settings(deadline=None)
@given(STARTS, TIMES, st.integers(1, 9))
def test_consecutive_initial_times_have_consecutive_ordinals(
    hours: list[int], start: int, days: int
) -> None:
    cycle = Cycle.parse(map(str, hours))
    times = cycle.between(start, start + days * DAY)
    ordinals = [cycle.ordinal(t) for t in times]
    assert ordinals == list(range(ordinals[0], ordinals[0] + len(times)))
    assert [cycle.ordinal(t + 1) for t in times] == ordinals


@pytest.mark.parametrize("times", [["24"], ["6h"], ["06", "6"], [], ["06:60"], ["-1"]])
def test_what_is_not_a_cycle_is_refused(times: list[str]) -> None:
    with pytest.raises(ConfigError):
        Cycle.parse(times)


@settings(deadline=None)
@given(st.sets(TIMES), st.sets(TIMES), st.sets(TIMES))
def test_a_plan_has_each_candidate_once_the_newest_first(
    candidates: set[int], published: set[int], available: set[int]
) -> None:
    found = plan(candidates, published=published.__contains__, available=available.__contains__)
    for times in found:
        assert times == sorted(times, reverse=True)
    assert sorted([*found.due, *found.waiting, *found.published]) == sorted(candidates)
    assert set(found.published) == candidates & published
    assert set(found.due) == candidates & available - published


@settings(deadline=None)
@given(st.sets(TIMES, min_size=1), st.integers(0, 9 * DAY), st.integers(1, 4), st.data())
def test_the_newest_good_forecast_is_never_removed(
    published: set[int], keep: int, at_least: int, data: st.DataObject
) -> None:
    good = data.draw(st.sampled_from(sorted(published)))
    old = expired(published, keep=keep, at_least=at_least, newest_good=good)
    left = published - set(old)
    assert {good, max(published)} <= left
    assert len(left) >= min(at_least, len(published))
    assert all(max(published) - t > keep for t in old)
    again = expired(left, keep=keep, at_least=at_least, newest_good=good)
    assert again == []
    assert expired(published, keep=keep, at_least=at_least, newest_good=None) == []
