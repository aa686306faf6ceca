"""The scorecard shows each difference, says which is better, and marks what is significant."""

from itertools import combinations, pairwise

import numpy as np
import pytest
import xarray as xr

from weatherdiff.errors import DimensionError, InputError
from weatherdiff.plotting import plot_scorecard

MANY = tuple(f"some_long_variable_name_{index}" for index in range(30))
REGIONS = ("all", "northern_extratropics", "southern_extratropics")


def mesh_of(panel):
    return panel.collections[0]


def colors_of(panel):
    mesh = mesh_of(panel)
    return mesh.cmap(mesh.norm(mesh.get_array()))


def test_cells_are_the_relative_differences_in_percent_with_the_first_variable_on_top(
    rich_comparison, render
):
    comparison = rich_comparison()
    figure = plot_scorecard(comparison)
    panel = figure.axes[0]
    np.testing.assert_allclose(
        mesh_of(panel).get_array(), 100 * comparison["relative_difference"].values
    )
    assert panel.yaxis_inverted()
    assert panel.get_yticklabels()[0].get_text() == "2 m temperature"
    assert [label.get_text() for label in panel.get_xticklabels()] == [
        "+6 h",
        "+12 h",
        "+24 h",
        "+48 h",
    ]
    render(figure)


@pytest.mark.parametrize(("better", "sign"), [("lower", -1), ("higher", 1)])
def test_blue_is_better_whichever_way_the_score_counts(rich_comparison, better, sign):
    comparison = rich_comparison(variables=("2m_temperature",)).assign_attrs(better=better)
    comparison["relative_difference"] = sign * abs(comparison["relative_difference"])
    red, _, blue, _ = colors_of(plot_scorecard(comparison).axes[0]).reshape(-1, 4).T
    assert (blue > red).all()


def test_scores_of_which_neither_way_is_better_are_not_called_so(rich_comparison):
    words = plot_scorecard(rich_comparison().assign_attrs(better="neither")).axes[-1].get_xlabel()
    assert "better" not in words


def test_a_dot_marks_the_significant_cells_and_no_other(rich_comparison):
    comparison = rich_comparison()
    panel = plot_scorecard(comparison).axes[0]
    cells = np.floor(panel.collections[1].get_offsets()).astype(int)[:, ::-1]
    expected = np.argwhere(comparison["significant"].values)
    assert 0 < len(expected) < comparison["significant"].size
    np.testing.assert_array_equal(cells, expected)


def test_what_is_not_known_has_neither_colour_nor_number_nor_dot(rich_comparison):
    comparison = rich_comparison()
    comparison["relative_difference"][0, 0] = np.nan
    panel = plot_scorecard(comparison).axes[0]
    assert np.ma.masked_invalid(mesh_of(panel).get_array()).mask.sum() == 1
    assert len(panel.texts) == comparison["relative_difference"].size - 1
    assert (np.floor(panel.collections[1].get_offsets()) != [0, 0]).any(axis=1).all()


def test_a_comparison_without_a_test_or_without_any_known_cell_can_be_drawn(
    rich_comparison, render
):
    comparison = rich_comparison().drop_vars("significant")
    render(plot_scorecard(comparison))
    render(plot_scorecard(comparison * np.nan))


@pytest.mark.parametrize(
    ("variables", "leads", "regions"),
    [
        (MANY[:1], (6,), ()),
        (MANY, range(6, 246, 6), ()),
        (MANY[:3], range(6, 90, 6), REGIONS),
        (MANY[:1], (6,), REGIONS),
        (MANY[:2], range(6, 246, 6), REGIONS),
    ],
)
def test_labels_of_cards_of_any_size_stay_apart_and_inside(
    rich_comparison, variables, leads, regions
):
    comparison = rich_comparison(variables=variables, leads=leads, regions=regions)
    figure = plot_scorecard(comparison, title="CRPS")
    figure.draw_without_rendering()
    whole = figure.bbox
    panels = figure.axes[: max(1, len(regions))]
    for axis, along in [(p.xaxis, "x") for p in panels] + [(p.yaxis, "y") for p in panels]:
        texts = [label for label in axis.get_ticklabels() if label.get_visible()]
        boxes = [text.get_window_extent() for text in texts]
        assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 for box in boxes)
        assert all(whole.y0 <= box.y0 and box.y1 <= whole.y1 for box in boxes)
        spans = sorted((getattr(box, f"{along}0"), getattr(box, f"{along}1")) for box in boxes)
        assert all(first[1] <= second[0] for first, second in pairwise(spans))
    titles = [panel.title.get_window_extent() for panel in panels if regions]
    assert not any(one.overlaps(other) for one, other in combinations(titles, 2))


def test_regions_and_events_are_panels(rich_comparison):
    comparison = rich_comparison(regions=("all", "tropics"))
    comparison = comparison.expand_dims(event=["above_p90", "below_p10"], axis=-1)
    titles = [panel.get_title() for panel in plot_scorecard(comparison).axes[:4]]
    assert titles == [
        "all, above the 90th percentile",
        "all, below the 10th percentile",
        "tropics, above the 90th percentile",
        "tropics, below the 10th percentile",
    ]
    np.testing.assert_allclose(
        mesh_of(plot_scorecard(comparison).axes[2]).get_array(),
        100 * comparison["relative_difference"].isel(region=1, event=0),
    )


def test_what_is_no_comparison_is_refused(rich_comparison):
    with pytest.raises(InputError, match="relative_difference"):
        plot_scorecard(xr.Dataset())
    with pytest.raises(DimensionError, match="model"):
        plot_scorecard(rich_comparison().expand_dims(model=2))
