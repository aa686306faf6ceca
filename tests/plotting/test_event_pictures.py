"""Pictures of events draw the frequencies, areas and values that the tables imply."""

import numpy as np
import pytest

from weatherdiff.errors import InputError
from weatherdiff.plotting import plot_economic_value, plot_reliability, plot_roc
from weatherdiff.plotting.events import event_labels

EVENT = {"variable": "2m_temperature", "event": "above_p90"}
DRAWINGS = [plot_reliability, plot_roc, plot_economic_value]


def tables(scores, lead):
    here = scores.sel(variable=EVENT["variable"], event=EVENT["event"]).isel(lead_time=lead)
    return here["event_count"].values, here["event_occurred"].values


def test_reliability_shows_frequencies_the_base_rate_and_how_often_each_was_given(
    rich_scores, render
):
    scores = rich_scores(leads=(6, 48))
    figure = plot_reliability(scores, **EVENT)
    diagrams, uses = figure.axes[:2], figure.axes[2:]
    for lead, (diagram, use) in enumerate(zip(diagrams, uses, strict=True)):
        count, occurred = tables(scores, lead)
        points = diagram.collections[-1].get_offsets()
        np.testing.assert_allclose(points[:, 0], np.arange(11) / 10)
        np.testing.assert_allclose(points[:, 1], occurred / count)
        np.testing.assert_allclose([bar.get_height() for bar in use.patches], count / count.sum())
        base = occurred.sum() / count.sum()
        dotted = [line for line in diagram.get_lines() if line.get_linestyle() == ":"]
        np.testing.assert_allclose([dotted[0].get_ydata()[0], dotted[1].get_xdata()[0]], base)
        fitted = diagram.get_lines()[-1].get_ydata()
        assert (np.diff(fitted) >= 0).all()
    render(figure)


def test_probabilities_that_come_true_lie_on_the_diagonal(rich_scores):
    scores = rich_scores(leads=(6,))
    share = scores["count"] / 10
    scores["event_occurred"] = scores["event_count"] * share
    diagram = plot_reliability(scores, **EVENT).axes[0]
    points = diagram.collections[-1].get_offsets()
    np.testing.assert_allclose(points[:, 0], points[:, 1])
    assert "miscalibration 0.000" in diagram.texts[0].get_text()


def test_probabilities_that_were_never_given_have_no_point(rich_scores, render):
    scores = rich_scores(leads=(6,))
    for name in ("event_count", "event_occurred"):
        scores[name] = scores[name].where(scores["count"] != 7, 0)
    figure = plot_reliability(scores, **EVENT)
    assert 0.7 not in figure.axes[0].collections[-1].get_offsets()[:, 0].round(6)
    render(figure)


def test_the_roc_area_is_the_chance_to_rank_an_event_above_a_non_event(rich_scores, render):
    scores = rich_scores(leads=(6, 48))
    figure = plot_roc(scores, **EVENT)
    for lead, curve in enumerate(figure.axes[0].get_lines()[1:]):
        count, occurred = tables(scores, lead)
        chance = occurred[:, None] * (count - occurred)
        expected = (np.tril(chance, -1).sum() + np.trace(chance) / 2) / chance.sum()
        assert curve.get_label().endswith(f"area {expected:.2f}")
        drawn = -np.trapezoid(curve.get_ydata(), curve.get_xdata())
        assert drawn == pytest.approx(expected)
    render(figure)


def test_the_value_at_the_base_rate_is_the_best_peirce_skill_score(rich_scores, render):
    scores = rich_scores(leads=(24,))
    figure = plot_economic_value(scores, **EVENT)
    curve = figure.axes[0].get_lines()[1]
    count, occurred = tables(scores, 0)
    hits = occurred[::-1].cumsum() / occurred.sum()
    alarms = (count - occurred)[::-1].cumsum() / (count - occurred).sum()
    base = occurred.sum() / count.sum()
    at_base = np.interp(base, curve.get_xdata(), curve.get_ydata())
    assert at_base == pytest.approx((hits - alarms).max(), abs=0.02)
    assert np.nanmax(curve.get_ydata()) <= 1
    render(figure)


def test_thresholds_are_told_in_the_unit_of_the_pictures(rich_scores):
    scores = rich_scores(leads=(6,)).assign_coords(event=["2m_temperature>298.15", "below_p10"])
    figure = plot_roc(scores, variable="2m_temperature", event="2m_temperature>298.15")
    assert figure.get_suptitle() == "2 m temperature > 25 °C: ROC"


@pytest.mark.parametrize("draw", DRAWINGS)
def test_one_region_is_drawn_and_named(rich_scores, draw):
    scores = rich_scores(leads=(6,), regions=("all", "tropics"))
    figure = draw(scores, **EVENT, region="tropics")
    assert "tropics" in figure.get_suptitle()
    alone = draw(scores.sel(region="tropics"), **EVENT)
    drawn = [line.get_xydata() for line in figure.axes[0].get_lines()]
    expected = [line.get_xydata() for line in alone.axes[0].get_lines()]
    for ours, theirs in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("draw", DRAWINGS)
def test_what_the_scores_do_not_hold_is_refused(rich_scores, draw):
    scores = rich_scores(leads=(6,))
    with pytest.raises(InputError, match="above_p90, below_p10"):
        draw(scores, variable="2m_temperature", event="rain")
    with pytest.raises(InputError, match="no event tables"):
        draw(scores.drop_vars("event_count"), **EVENT)
    with pytest.raises(InputError, match="no scores of region"):
        draw(scores, **EVENT, region="mars")


def test_an_event_of_another_variable_is_not_offered(rich_scores):
    scores = rich_scores(leads=(6,))
    own = (scores["variable"] != "2m_temperature") | (scores["event"] != "below_p10")
    scores["event_count"] = scores["event_count"].where(own)
    assert event_labels(scores, "2m_temperature") == ["above_p90"]
    assert event_labels(scores, "geopotential_500") == ["above_p90", "below_p10"]
    assert event_labels(scores.drop_vars("event_count"), "2m_temperature") == []
