"""The fractions skill score is drawn against its target, event by event."""

import numpy as np
import pytest

from weatherdiff.errors import InputError
from weatherdiff.plotting import plot_fractions_skill
from weatherdiff.plotting.neighbourhoods import fractions_events

WARMTH = "2m_temperature"


def test_scores_and_targets_of_each_event_are_drawn_by_lead_time(rich_scores, render):
    scores = rich_scores(leads=(6, 48), regions=("all", "tropics"))
    figure = plot_fractions_skill(scores, variable=WARMTH)
    here = scores.sel(variable=WARMTH)
    for event, panel in enumerate(figure.axes):
        lines = panel.get_lines()
        for lead, label in enumerate(("+6 h", "+48 h")):
            drawn, target = lines[2 * lead], lines[2 * lead + 1]
            assert drawn.get_label() == label
            expected = here["fractions_skill_score"].isel(lead_time=lead, event=event)
            np.testing.assert_allclose(drawn.get_xdata(), [1, 3, 5, 9])
            np.testing.assert_allclose(drawn.get_ydata(), expected)
            base = float(here["base_rate"].isel(region=0, lead_time=lead, event=event))
            np.testing.assert_allclose(target.get_ydata(), 0.5 + base / 2)
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    assert titles[0] == "2 m temperature above the 90th percentile"
    render(figure)


def test_without_a_base_rate_there_is_no_target(rich_scores):
    scores = rich_scores(leads=(6,)).drop_vars("base_rate")
    panel = plot_fractions_skill(scores, variable=WARMTH).axes[0]
    assert [drawn.get_label() for drawn in panel.get_lines()] == ["+6 h"]


def test_events_of_other_variables_are_left_out_and_none_is_refused(rich_scores):
    scores = rich_scores(leads=(6,))
    name = "fractions_skill_score"
    own = (scores["variable"] != WARMTH) | (scores["event"] != "above_p90")
    fewer = scores.assign({name: scores[name].where(own)})
    assert fractions_events(fewer, WARMTH) == ["below_p10"]
    assert len(plot_fractions_skill(fewer, variable=WARMTH).axes) == 1
    with pytest.raises(InputError, match=f"any event of {WARMTH}"):
        plot_fractions_skill(scores.assign({name: scores[name] * np.nan}), variable=WARMTH)
    with pytest.raises(InputError, match="no fractions skill score"):
        plot_fractions_skill(scores.drop_vars(name), variable=WARMTH)
