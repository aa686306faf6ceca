"""The report tells the truth in words, shows it, and is one whole, harmless file."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr

from weatherdiff.errors import GridMismatchError, InputError, StorageError
from weatherdiff.evaluation import ClimatologyEnsemble, Persistence, evaluate
from weatherdiff.report import write_report
from weatherdiff.report.cases import choose_case, choose_points, spectrum_inits
from weatherdiff.report.page import properties
from weatherdiff.report.tables import score_table
from weatherdiff.report.verdict import headline, shortcomings, variable_summary

HOUR = np.timedelta64(3_600_000_000_000, "ns")
LABELS = ["2m_temperature", "geopotential_500"]
VOID = {"meta", "img", "br", "hr", "link", "input"}


def make_data(*, inits=3, leads=(6, 12), members=4, masked=True, seed=0):
    """Forecasts and analyses of a temperature and of geopotential on one level."""
    rng = np.random.default_rng(seed)
    longitude = np.arange(-9.75, 4, 1.5) if masked else np.arange(0, 360, 45.0)
    grid = {"latitude": np.arange(50.25, 56, 1.0), "longitude": longitude}
    shape = tuple(len(values) for values in grid.values())
    time = np.datetime64("2018-06-01", "ns") + 6 * HOUR * np.arange(60)
    ensemble = ("init_time", "lead_time", "number")
    sizes = inits, len(leads), members
    north = 20 - np.arange(shape[0])[:, None]  # colder to the north
    kelvin, geopotential = {"units": "K"}, {"units": "m**2 s**-2"}

    def noise(*size):
        return rng.normal(size=(*size, *shape)).astype("float32")

    forecasts = xr.Dataset(
        {
            "2m_temperature": ((*ensemble, *grid), 270 + north + noise(*sizes), kelvin),
            "geopotential": (
                (*ensemble, "level", *grid),
                5e4 + 300 * noise(*sizes, 1),
                geopotential,
            ),
        },
        {
            "init_time": time[40 : 40 + inits],
            "lead_time": np.array(leads) * HOUR,
            "number": np.arange(members),
            "level": [500],
            **grid,
        },
    )
    observations = xr.Dataset(
        {
            "2m_temperature": (("time", *grid), 270 + north + noise(60), kelvin),
            "geopotential": (("time", "level", *grid), 5e4 + 300 * noise(60, 1), geopotential),
        },
        {"time": time, "level": [500], **grid},
    )
    if masked:
        land = xr.DataArray(np.ones(shape, bool), grid, ("latitude", "longitude"))
        land[2:4, 3:6] = False
        with xr.set_options(keep_attrs=True):
            forecasts, observations = forecasts.where(land), observations.where(land)
    return forecasts, observations


def make_scores(*, skill=0.2, ratio=1.0, labels=LABELS, leads=(6, 12), inits=()):
    """Scores with the given skill and spread-skill ratio, (variable, lead_time) or one number."""
    dims, shape = ("variable", "lead_time"), (len(labels), len(leads))
    skill, ratio = np.broadcast_to(skill, shape), np.broadcast_to(ratio, shape)
    data = {
        "crps": (dims, 1 - skill),
        "rmse": (dims, np.full(shape, 1.8)),
        "spread": (dims, 1.8 * ratio),
        "bias": (dims, np.full(shape, 0.25)),
        "spread_skill_ratio": (dims, ratio),
        "coverage": (dims, np.ones(shape)),
        "crps_climatology": (dims, np.ones(shape)),
        "crpss_climatology": (dims, skill),
        "crps_persistence": (dims, 2 * (1 - skill)),
        "crpss_persistence": (dims, np.full(shape, 0.5)),
        "rank_histogram": ((*dims, "rank"), np.full((*shape, 5), 0.2)),
    }
    coords = {
        "variable": labels,
        "units": ("variable", ["K", "m**2 s**-2"][: len(labels)]),
        "lead_time": np.array(leads) * HOUR,
    }
    attrs = {"members": 4, "inits": 3, "period": "2018-06-11T00:00:00/2018-06-11T12:00:00"}
    attrs |= {"estimator": "fair", "references": ["climatology", "persistence"]}
    return xr.Dataset(data, coords, attrs)


def with_single_crps(scores, init_time, crps):
    """Add the per-forecast sums, (variable, init_time, lead_time)."""
    dims = ("variable", "init_time", "lead_time")
    crps = np.broadcast_to(crps, (scores.sizes["variable"], len(init_time), 2))
    return scores.assign_coords(init_time=init_time).assign(
        sum_crps=(dims, 7.0 * crps), sum_weight=(dims, np.full(crps.shape, 7.0))
    )


class Page(HTMLParser):
    """Collects what a browser would fetch and show, and checks that tags are balanced."""

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.images, self.ids, self.text = [], [], [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(attributes)
        if "id" in attributes:
            self.ids.append(attributes["id"])
        self.links += [attributes[name] for name in ("href", "src") if name in attributes]
        assert tag not in ("script", "link", "iframe")
        assert not any(name.startswith("on") for name in attributes)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A report of real scores, with everything in it, and its text."""
    forecasts, observations = make_data(inits=3)
    climatology = ClimatologyEnsemble(observations, period=("2018-06-01", "2018-06-10"))
    scores = evaluate(
        forecasts,
        observations,
        reference={"climatology": climatology, "persistence": Persistence(observations)},
    )
    path = write_report(
        tmp_path_factory.mktemp("report") / "new" / "report.html",
        scores=scores,
        forecasts=forecasts,
        observations=observations,
        provenance={"data": {"licence": "<script>alert('&')</script>"}, "seeds": [1, 2]},
        title="Rain & <b>shine</b>",
        references={"climatology": "training days at the same hour"},
    )
    return path, path.read_text(encoding="utf-8")


# The file


def test_the_page_fetches_nothing(written):
    page = Page(written[1])
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in page.links)
    assert not re.search(r"url\(|@import", written[1])
    assert "default-src 'none'" in written[1]


def test_every_link_within_the_page_has_its_target_and_every_picture_a_text(written):
    page = Page(written[1])
    anchors = [link[1:] for link in page.links if link.startswith("#")]
    assert anchors == page.ids == ["variable-0", "variable-1", "method", "provenance"]
    assert all(len(image["alt"]) > 20 for image in page.images)
    # Scores, parts, ranks, maps, three plumes of each of two variables; masked: no spectra.
    assert len(page.images) == 14


def test_texts_from_outside_cannot_become_markup(written):
    page = Page(written[1])
    assert "<script>alert('&')</script>" in page.text
    assert "Rain & <b>shine</b>" in page.text


def test_the_page_says_what_it_shows(written):
    text = Page(written[1]).text
    assert "The ensemble of 4 members beats climatology at" in text
    assert "2 m temperature" in text
    assert "geopotential 500" in text
    assert "training days at the same hour" in text
    assert "a spectrum needs a field without missing cells." in text
    assert "Cell with the warmest forecast of 2 m temperature" in text


def test_equal_inputs_give_equal_bytes_and_nothing_is_left_beside_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr("weatherdiff.report.write._MOST_PICTURES", 2)
    forecasts, observations = make_data(leads=(6,))
    scores = make_scores(labels=LABELS[:1], leads=(6,)).drop_vars("rank_histogram")
    path = tmp_path / "report.html"
    pages = []
    for _ in range(2):
        write_report(
            path,
            scores=scores,
            forecasts=forecasts,
            observations=observations,
            points={"Leeds": (53.8, -1.5)},
        )
        pages.append(path.read_bytes())
    assert pages[0] == pages[1]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.deep
def test_noisy_global_fields_keep_the_page_small(tmp_path):
    rng = np.random.default_rng(0)
    grid = {"latitude": np.linspace(-87.5, 87.5, 36), "longitude": np.arange(0, 360, 5.0)}
    leads = np.array([24, 48, 72, 96]) * HOUR
    init = np.array(["2020-01-01"], "datetime64[ns]")
    noise = rng.normal(280, 10, (1, 4, 3, 36, 72)).astype("float32")
    dims = ("init_time", "lead_time", "number", *grid)
    forecasts = xr.Dataset(
        {"2m_temperature": (dims, noise, {"units": "K"})},
        {"init_time": init, "lead_time": leads, "number": range(3), **grid},
    )
    observations = xr.Dataset(
        {"2m_temperature": (("time", *grid), noise[0, :, 0], {"units": "K"})},
        {"time": init[0] + leads, **grid},
    )
    scores = make_scores(labels=LABELS[:1], leads=(24, 48, 72, 96))
    path = write_report(
        tmp_path / "r.html",
        scores=scores,
        forecasts=forecasts,
        observations=observations,
        points={},
    )
    # Four variables with three plumes each, of 120 kB, stay below 5 MB.
    assert 4 * (path.stat().st_size + 3 * 120e3) < 5e6
    assert "Power spectra of 2 m temperature" in path.read_text(encoding="utf-8")


@pytest.mark.usefixtures("unrendered")
def test_a_failure_to_write_leaves_what_was_there(tmp_path):
    forecasts, observations = make_data(leads=(6,))
    target = tmp_path / "report.html"
    target.mkdir()
    (target / "precious").touch()
    with pytest.raises(StorageError, match=r"report\.html"):
        write_report(
            target,
            scores=make_scores(labels=LABELS[:1], leads=(6,)),
            forecasts=forecasts,
            observations=observations,
            points={},
        )
    assert list(tmp_path.iterdir()) == [target]
    assert (target / "precious").exists()


@pytest.mark.usefixtures("unrendered")
def test_only_the_forecast_shown_and_eight_for_the_spectra_are_read(tmp_path):
    forecasts, observations = make_data(inits=18, leads=(6,), members=2, masked=False)
    read = set()

    def note(block, block_info=None):
        if block_info:
            read.add(block_info[0]["chunk-location"][0])
        return block

    lazy = forecasts[["2m_temperature"]].chunk(init_time=1)
    lazy["2m_temperature"].data = lazy["2m_temperature"].data.map_blocks(
        note, dtype="float32", meta=np.empty((0,) * 5, "float32")
    )
    write_report(
        tmp_path / "report.html",
        scores=make_scores(labels=LABELS[:1], leads=(6,)),
        forecasts=lazy,
        observations=observations,
        points={"somewhere": (53, 90)},
    )
    assert 8 in read  # the middle one of eighteen
    assert len(read) <= 9


def test_data_that_do_not_match_the_scores_are_refused(tmp_path):
    forecasts, observations = make_data()
    arguments = {"scores": make_scores(), "observations": observations}
    with pytest.raises(InputError, match="geopotential_500"):
        write_report(tmp_path / "r", forecasts=forecasts[["2m_temperature"]], **arguments)
    with pytest.raises(InputError, match="no forecasts"):
        write_report(tmp_path / "r", forecasts=forecasts.isel(init_time=[]), **arguments)
    with pytest.raises(GridMismatchError):
        write_report(tmp_path / "r", forecasts=forecasts.isel(latitude=slice(1, 5)), **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("unrendered")
def test_a_place_without_data_and_times_without_observation_become_sentences(tmp_path):
    forecasts, observations = make_data(leads=(6,), inits=1)
    valid = forecasts["init_time"].values[0] + 6 * HOUR
    path = write_report(
        tmp_path / "report.html",
        scores=make_scores(labels=LABELS[:1], leads=(6,)),
        forecasts=forecasts,
        observations=observations.sel(time=observations["time"] != valid),
        points={"the moon": (0, 0)},
    )
    text = Page(path.read_text(encoding="utf-8")).text
    assert "No plume for the moon: the point 0N 0E is outside the grid." in text
    assert "No spectra: no forecast has all its valid times observed." in text


# The verdict


def test_the_headline_counts_what_is_beaten_and_what_is_calibrated():
    scores = make_scores(skill=[[0.3, 0.0], [0.1, -0.2]], ratio=[[0.8, 1.2], [0.79, 1.21]])
    assert headline(scores).startswith(
        "The ensemble of 4 members beats climatology at 2 of 4 pairs of 2 variables and 2 leads "
        "and persistence at 4 of 4. Its spread-skill ratio lies within 0.8 to 1.2 at 2 of 4."
    )
    assert variable_summary(scores.isel(variable=0)) == (
        "2 m temperature: beats climatology at 1 of 2 leads and persistence at 2 of 2; "
        "spread-skill ratio within 0.8 to 1.2 at 2 of 2."
    )


def test_a_skill_that_is_not_known_is_not_a_win_and_is_said_to_be_unknown():
    scores = make_scores(skill=[[0.3, np.nan]], labels=LABELS[:1])
    assert "climatology at 1 of 2 leads" in headline(scores)
    assert "no skill against climatology known at 12 h" in shortcomings(scores.isel(variable=0))
    assert "not known" in score_table(scores.isel(variable=0))


def test_a_headline_without_references_claims_no_skill():
    scores = make_scores()
    scores = scores.drop_vars([name for name in scores if "_climato" in name or "_persis" in name])
    assert "against no reference" in headline(scores)
    assert "beats" not in headline(scores)


def test_shortcomings_name_leads_and_sizes():
    scores = make_scores(skill=[[-0.04, 0.2]], ratio=[[1.71, 0.6]], labels=LABELS[:1])
    text = shortcomings(scores.isel(variable=0))
    assert "no better than climatology at 6 h (skill down to -4 %)" in text
    assert "too confident at 12 h (spread-skill ratio down to 0.60)" in text
    assert "too dispersed at 6 h (spread-skill ratio up to 1.71)" in text
    assert "persistence" not in text


def test_a_fault_at_all_leads_is_said_once_and_no_fault_is_said_too():
    scores = make_scores(skill=-0.1).isel(variable=0)
    assert "no better than climatology at every lead" in shortcomings(scores)
    assert shortcomings(make_scores().isel(variable=0)).startswith("Falls short nowhere")


def test_the_table_marks_failures_and_nothing_else_in_customary_units():
    scores = make_scores(skill=[[-0.04, 0.2]], ratio=[[1.0, 0.6]], labels=LABELS[:1])
    scores = scores.assign_coords(units=("variable", ["Pa"])).isel(variable=0)
    table = score_table(scores)
    marked = re.findall(r'<td class="bad">([^<]*)</td>', table)
    assert marked == ["▼ -4.0", "▼ 0.60"]
    rows = re.findall(r"<tr>(.*?)</tr>", table)
    cells = re.findall(r"<t[hd][^>]*>([^<]*)<", rows[2])
    assert cells == ["12", "0.00800", "20.0", "50.0", "▼ 0.60", "0.0180", "0.00250"]
    assert "CRPS [hPa]" in rows[0]


def test_incomplete_coverage_is_shown():
    scores = make_scores().isel(variable=0)
    assert "coverage" not in score_table(scores)
    scores["coverage"][1] = 0.75
    assert "coverage [%]" in score_table(scores)
    assert "75.0" in score_table(scores)


def test_provenance_of_any_depth_is_escaped():
    value = {"a<": [{"b": [1, 2.5, None]}, {"c": False}], "d": {"e": {"f": "x&y"}}}
    assert properties(value) == (
        "<dl><dt>a&lt;</dt><dd><ul><li><dl><dt>b</dt><dd>1, 2.5, not given</dd></dl></li>"
        "<li><dl><dt>c</dt><dd>no</dd></dl></li></ul></dd>"
        "<dt>d</dt><dd><dl><dt>e</dt><dd><dl><dt>f</dt><dd>x&amp;y</dd></dl></dd></dl></dd></dl>"
    )


# The choice of cases


def test_the_case_shown_has_the_median_crps():
    forecasts, _ = make_data(inits=5)
    crps = np.array([5.0, 1.0, 4.0, 2.0, 3.0])[:, None]
    scores = with_single_crps(make_scores(), forecasts["init_time"].values, crps)
    case = choose_case(scores, forecasts)
    assert case.init_time == forecasts["init_time"].values[4]
    assert "median CRPS among 5" in case.reason


def test_a_variable_in_large_units_does_not_choose_the_case_alone():
    forecasts, _ = make_data(inits=3)
    kelvin, geopotential = np.array([9.0, 2.0, 1.0]), np.array([1200.0, 1000.0, 1100.0])
    crps = np.stack([kelvin, geopotential])[:, :, None]
    scores = with_single_crps(make_scores(), forecasts["init_time"].values, crps)
    # Relative to the means: 2.25 + 1.09, 0.5 + 0.91, 0.25 + 1.0. By plain sums the third would be
    # in the middle.
    assert choose_case(scores, forecasts).init_time == forecasts["init_time"].values[1]


def test_incomplete_forecasts_and_leads_without_error_do_not_choose_the_case():
    forecasts, _ = make_data(inits=4)
    crps = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [np.nan, 0.0]])  # the sun at night
    scores = with_single_crps(make_scores(), forecasts["init_time"].values, crps)
    case = choose_case(scores, forecasts)
    assert case.init_time == forecasts["init_time"].values[1]
    assert "among 3" in case.reason


def test_without_single_scores_the_case_is_the_middle_one():
    forecasts, _ = make_data(inits=5)
    case = choose_case(make_scores(), forecasts)
    assert case.init_time == forecasts["init_time"].values[2]


def test_points_are_the_middle_and_the_extremes_of_the_forecast_on_valid_cells():
    forecasts, _ = make_data(members=4)
    one = forecasts.isel(init_time=[0])
    temperature = one["2m_temperature"]
    temperature[..., 1, 2] += 500
    temperature[..., 4, 7] -= 100
    points = choose_points(one, LABELS)
    grid = forecasts["latitude"].values, forecasts["longitude"].values
    assert list(points.values())[1:] == [(grid[0][1], grid[1][2]), (grid[0][4], grid[1][7])]
    # The middle of the area itself is sea.
    latitude, longitude = next(iter(points.values()))
    assert np.isfinite(temperature.sel(latitude=latitude, longitude=longitude)).all()


def test_spectra_take_few_evenly_spaced_forecasts_that_are_wholly_observed():
    forecasts, observations = make_data(inits=18, leads=(6, 12))
    chosen = spectrum_inits(forecasts, observations)
    assert chosen.size == 8
    assert chosen[0] == forecasts["init_time"].values[0]
    # The last two are verified after the record's end if it ends with the last start.
    cut = observations.sel(time=slice(None, forecasts["init_time"].values[-1]))
    assert spectrum_inits(forecasts, cut)[-1] == forecasts["init_time"].values[-3]
