"""Times are labelled by the calendar, whatever their unit and their century."""

import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weatherdiff.errors import DimensionError
from weatherdiff.evaluation.groups import GROUPS, SEASONS, hour_of, month_of, season_of

TIMES = st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2250, 1, 1))


@given(st.lists(TIMES, min_size=1, max_size=5), st.sampled_from(["ns", "us", "s"]))
def test_labels_are_those_of_the_calendar(times, unit):
    values = np.array(times, "datetime64[us]").astype(f"datetime64[{unit}]")
    months = [time.month for time in times]
    assert month_of(values).tolist() == months
    assert hour_of(values).tolist() == [time.hour for time in times]
    seasons = {12: "DJF", 1: "DJF", 2: "DJF", 3: "MAM", 4: "MAM", 5: "MAM", 6: "JJA", 7: "JJA"}
    assert season_of(values).tolist() == [
        seasons.get(m, "JJA" if m == 8 else "SON") for m in months
    ]


def test_labels_keep_the_shape_and_are_all_in_their_fixed_order():
    days = np.arange("2019-03-01", "2020-03-01", dtype="datetime64[h]").reshape(-1, 24)
    for name, (label, order) in GROUPS.items():
        assert label(days).shape == days.shape, name
        assert set(label(days).ravel().tolist()) == set(order)
    assert SEASONS == ("DJF", "MAM", "JJA", "SON")
    assert GROUPS["month"][1] == tuple(range(1, 13))
    assert GROUPS["hour"][1] == tuple(range(24))
    assert season_of(days[:0]).shape == (0, 24)


@pytest.mark.parametrize("label", [season_of, month_of, hour_of])
def test_what_are_no_dates_is_refused(label):
    for times in (np.array([0, 6]), np.array(["2020-01-01"]), np.array(["NaT"], "datetime64[s]")):
        with pytest.raises(DimensionError, match="expected dates"):
            label(times)
