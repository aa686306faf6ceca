"""The report shows every score there is, says what the tests found, and stays small."""

import re

import numpy as np
import pytest
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.evaluation import Event, Persistence, Settings, compare, scores_from, statistics
from weatherdiff.plotting.selection import one_stratum
from weatherdiff.plotting.sums import with_pooled_sums
from weatherdiff.report import write_report
from weatherdiff.report.exhibits import Exhibit, shares, shown
from weatherdiff.report.joint import joint_tables
from weatherdiff.report.page import picture
from weatherdiff.report.tables import strata_table
from weatherdiff.report.verdict import headline, significance

HOUR = np.timedelta64(3_600_000_000_000, "ns")
TWO = ("2m_temperature", "mean_sea_level_pressure")
# All that is drawn of one variable besides its scores against lead time.
INGREDIENTS = {
    "over": "Parts of the CRPS",
    "rank_histogram": "Rank histograms",
    "event_count": "Reliability diagrams",
    "map_weight": "Maps of the CRPS",
    "crps_by_scale": "averaged over ever larger scales",
    "energy_score": "Scores of whole fields",
    "fractions_skill_score": "Fractions skill score",
    "power_members": "Power spectra",
}


def alts(page):
    return re.findall(r'<img [^>]*alt="([^"]*)"', page)


def written(folder, **arguments):
    return write_report(folder / "report.html", **arguments).read_text(encoding="utf-8")


pytestmark = pytest.mark.usefixtures("unrendered")


@pytest.fixture(scope="module")
def page(tmp_path_factory, rich_scores, rich_comparison, unrendered):
    references = {
        "climatology": rich_comparison(variables=TWO).assign_attrs(description="thirty <years>"),
        "persistence": "the last analysis",
    }
    scores = rich_scores(variables=TWO, leads=(6, 12), regions=("all", "tropics"))
    scores = scores.isel(event=[0])
    folder = tmp_path_factory.mktemp("report")
    return written(folder, scores=scores, references=references, title="Scores alone")


def test_a_report_of_scores_alone_shows_every_ingredient_of_every_variable(page):
    texts = alts(page)
    for words in INGREDIENTS.values():
        assert sum(words in text for text in texts) >= len(TWO), words
    assert sum("a line for each region" in text for text in texts) == len(TWO)
    assert all(len(text) > 20 for text in texts)
    assert "The forecast from" not in page


def test_the_scorecard_comes_before_the_variables_and_says_what_was_found(page):
    assert page.index('id="scorecard"') < page.index('id="variable-0"')
    assert 'href="#scorecard"' in page
    card = next(text for text in alts(page) if text.startswith("Scorecard"))
    assert re.search(r"CRPS relative to climatology .* better than climatology at \d of 8", card)


def test_what_a_reference_is_comes_from_words_or_from_the_comparison(page):
    assert "thirty &lt;years&gt;" in page
    assert "the last analysis" in page
    assert "No significance test was made against persistence." in page


def test_regions_are_in_a_table_and_the_verdict_says_of_which_it_is(page):
    assert "Where nothing else is said, scores are of region all." in page
    assert page.count("<h3>By region</h3>") == len(TWO)
    assert page.count('<th scope="row">tropics</th>') == len(TWO)


def test_equal_scores_and_comparisons_give_equal_bytes(
    tmp_path, rich_scores, rich_comparison, monkeypatch
):
    monkeypatch.setattr("weatherdiff.report.exhibits.picture", picture)
    scores = rich_scores(variables=TWO[:1], leads=(6,))
    scores = scores[["crps", "rmse", "bias", "spread_skill_ratio"]]
    pages = [
        written(tmp_path, scores=scores, references={"x": rich_comparison(leads=(6,))})
        for _ in range(2)
    ]
    assert pages[0] == pages[1]


def test_a_missing_ingredient_is_a_sentence(tmp_path, rich_scores):
    scores = rich_scores(variables=TWO[:1], leads=(6,))
    keep = ["crps", "rmse", "bias", "spread_skill_ratio", "rank_histogram"]
    powers = [name for name in scores if str(name).startswith("power")]
    page = written(tmp_path, scores=scores[keep].assign(scores[powers] * np.nan))
    assert "No spectra: the scores hold no spectra of 2m_temperature." in page
    assert len(alts(page)) == 2


def test_forecasts_without_observations_are_refused(tmp_path, rich_scores):
    with pytest.raises(InputError, match="beside observations"):
        written(tmp_path, scores=rich_scores(), forecasts=xr.Dataset())


def test_a_page_of_many_variables_keeps_to_sixty_pictures_and_names_the_rest(
    tmp_path, rich_scores, rich_comparison, monkeypatch
):
    drawn = []
    monkeypatch.setattr(Exhibit, "markup", lambda self: drawn.append(self.name) or "")
    variables = tuple(f"variable_{index}" for index in range(70))
    cards = {f"model_{index}": rich_comparison(variables=variables) for index in range(6)}
    scores = rich_scores(variables=TWO[:1], leads=(6,)).isel(variable=[0] * len(variables))
    scores = scores.assign_coords(variable=list(variables))
    page = written(tmp_path, scores=scores, references=cards)
    assert len(drawn) == 60
    assert sum(name.startswith("scorecard") for name in drawn) == 4
    assert drawn.count("scores against lead time") == 56
    assert "scorecard against model 5" in page
    assert "Left out to keep the page small: scores against lead time, parts of the CRPS" in page


def test_the_most_important_pictures_are_kept_in_the_order_of_the_page(monkeypatch):
    monkeypatch.setattr(Exhibit, "markup", lambda self: self.name)
    exhibits = [
        Exhibit(name, None, "", rank=rank) for name, rank in zip("abcd", (0, 9, 3, 1), strict=True)
    ]
    assert shown(exhibits, 3) == ["a", "c", "d", "<p>Left out to keep the page small: b.</p>"]
    assert shown(exhibits, 9) == ["a", "b", "c", "d"]
    assert sum(shares(40, [9] * 7)) == 40


def test_baselines_are_explained_by_default_and_references_are_those_the_scores_name(
    tmp_path, rich_scores
):
    scores = rich_scores(variables=TWO[:1], leads=(6,))
    keep = ["crps", "rmse", "bias", "spread_skill_ratio", "energy_score", "energy_score_lead_time"]
    scores = scores[[*keep, "crpss_climatology", "crps_climatology", "crpss_by_scale_climatology"]]
    page = written(tmp_path, scores=scores, references={"climatology": "my own"})
    assert "my own" in page
    assert "beats climatology at 1 of 1 leads." in page
    assert "by scale" not in page
    page = written(tmp_path, scores=scores)
    assert "analyses of the training period" in page
    assert "the last analysis" not in page


def test_scores_of_leads_or_variables_together_are_tables_with_their_skills(rich_scores):
    scores = rich_scores(variables=TWO, leads=(6, 12), regions=("all", "tropics"))
    score = xr.DataArray([0.5, 0.75], {"lead_time": scores["lead_time"]}, "lead_time")
    scores["energy_score_variable"] = score
    scores["energy_skill_variable_persistence"] = score - 0.6
    scores["energy_score_lead_time"][:] = [[1.5, 250.0], [3.0, 500.0]]  # K, Pa
    tables = joint_tables(one_stratum(scores)[0])
    cells = [
        re.findall(r"<t[hd][^>]*>([^<]*)<", row)
        for row in re.findall("<tr>.*?</tr>", "".join(tables))
    ]
    assert cells == [
        ["joint over space and lead times", "energy score", "skill against climatology [%]"],
        ["2 m temperature", "1.50 K", "25.0"],
        ["mean sea level pressure", "2.50 hPa", "25.0"],
        ["joint over space and variables", "energy score", "skill against persistence [%]"],
        ["+6 h", "0.500", "▼ -10.0"],
        ["+12 h", "0.750", "15.0"],
    ]
    assert joint_tables(scores[["crps", "energy_score"]]) == []


def test_the_scorecard_says_how_few_independent_forecasts_there_are(page):
    assert "the 60 compared count as 40 independent ones in the median" in page


# The verdict


def test_the_headline_says_what_the_tests_found(rich_scores, rich_comparison):
    scores = rich_scores(leads=(6, 12))
    comparison = rich_comparison(leads=(6, 12))
    comparison["difference"][:] = [[-1, 1], [-1, -1], [-1, np.nan]]
    comparison["significant"][:] = [[True, True], [False, True], [True, False]]
    comparison["p_value"][2, 1] = np.nan
    text = headline(scores, {"climatology": comparison, "persistence": comparison})
    assert text.endswith(
        '"Beats" means a lower mean CRPS. Tested at a false discovery rate of 5 %, it is '
        "significantly better than climatology at 3 of 6, worse at 1 (1 not tested); "
        "better than persistence at 3 of 6, worse at 1 (1 not tested)."
    )
    assert "no significance test was made" in headline(scores)


def test_a_test_of_another_score_does_not_speak_for_the_crps(rich_scores, rich_comparison):
    comparison = rich_comparison().assign_attrs(score="rmse")
    text = headline(rich_scores(), {"climatology": comparison})
    assert "no significance test was made" in text


def test_higher_is_better_for_some_scores(rich_comparison):
    comparison = rich_comparison(variables=TWO[:1], leads=(6, 12))
    comparison["difference"][:] = [[0.1, 0.2]]
    comparison["significant"][:] = True
    assert "at 0 of 2, worse at 2" in significance(comparison, "x")
    assert "at 2 of 2, worse at none" in significance(comparison.assign_attrs(better="higher"), "x")


def test_the_table_of_seasons_marks_failures_and_leaves_out_the_unknown(rich_scores):
    scores = rich_scores(variables=TWO[1:], leads=(6, 12), seasons=("DJF", "MAM", "JJA"))
    for name, value in (("crps", 250.0), ("crpss_climatology", 0.25), ("spread_skill_ratio", 1.0)):
        scores[name] = scores[name] * 0 + value
        scores[name] = scores[name].where(scores["season"] != "DJF")
    scores["crpss_climatology"][2, 0, 1] = -0.5
    table = strata_table(scores.isel(variable=0), "season")
    rows = [
        re.findall(r"<t[hd][^>]*>([^<]*)<", row) for row in re.findall(r"<tr>(.*?)</tr>", table)
    ]
    assert rows[2:] == [
        ["MAM", "2.50", "2.50", "25.0", "25.0", "1.00", "1.00"],
        ["JJA", "2.50", "2.50", "25.0", "▼ -50.0", "1.00", "1.00"],
    ]
    assert rows[0] == [
        "season",
        "CRPS [hPa]",
        "skill against climatology [%]",
        "spread-skill ratio",
    ]


def test_scores_of_the_engine_are_drawn_from_the_sums_beside_them(tmp_path):
    rng = np.random.default_rng(0)
    time = np.datetime64("2020-01-01", "ns") + 12 * HOUR * np.arange(24)
    grid = {"latitude": [-45.0, 0.0, 60.0], "longitude": [0.0, 90.0, 180.0, 270.0]}
    truth = xr.Dataset(
        {"t": (("time", *grid), rng.normal(size=(24, 3, 4)), {"units": "K"})},
        {"time": time, **grid},
    )
    dims = ("init_time", "lead_time", "number", *grid)
    coords = {"init_time": time[10:20], "lead_time": np.array([12, 24]) * HOUR, **grid}
    forecasts = xr.Dataset({"t": (dims, rng.normal(size=(10, 2, 5, 3, 4)), {"units": "K"})}, coords)
    settings = Settings(events=[Event("t", 0.5)], decomposition=True, maps=True)
    reference = {"persistence": Persistence(truth)}
    sums = statistics(forecasts, truth, reference=reference, settings=settings)
    scores = scores_from(sums)
    pooled = with_pooled_sums(scores)
    np.testing.assert_allclose(
        pooled["event_occurred"].sum("count") / pooled["event_count"].sum("count"),
        scores["base_rate"],
    )
    page = written(
        tmp_path, scores=scores, references={"persistence": compare(sums, "persistence")}
    )
    for words in ("Scorecard", "Parts of the CRPS", "Reliability diagrams", "Maps of the CRPS"):
        assert any(words in text for text in alts(page)), words
    assert "<p>No " not in page
