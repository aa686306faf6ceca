from __future__ import annotations

import json
import os

import numpy as np
import pytest
import xarray as xr

from weatherdiff.errors import InputError, MissingInputError, StorageError
from weatherdiff.evaluation import (
    evaluate,
    open_scores,
    score_table,
    summary,
    write_scores,
)
from weatherdiff.evaluation.scorecard import scorecard, scorecard_table
from weatherdiff.evaluation.significance import compare
from weatherdiff.staging import PARTIAL_SUFFIX, remove_leftovers


@pytest.fixture
def scores(scored_once: xr.Dataset) -> xr.Dataset:
    return scored_once.copy(deep=True)


def test_summary_holds_the_headline_scores_as_plain_numbers(scores):
    result = json.loads(json.dumps(summary(scores), allow_nan=False))
    assert result["members"] == 3
    assert list(result["variables"]) == ["2m_temperature", "geopotential_500", "geopotential_850"]
    assert list(result["variables"]["2m_temperature"]) == ["6", "12", "18"]
    for variable, leads in result["variables"].items():
        for hours, values in leads.items():
            here = scores.sel(variable=variable, lead_time=np.timedelta64(int(hours), "h"))
            assert values == {
                name: float(here[name])
                for name in (
                    *("crps", "crpss_climatology", "crpss_persistence"),
                    "spread_skill_ratio",
                )
            }


def test_summary_leaves_out_references_that_were_not_given(forecasts, analyses):
    values = summary(evaluate(forecasts, analyses))["variables"]["2m_temperature"]["6"]
    assert set(values) == {"crps", "spread_skill_ratio"}


def test_table_is_aligned_and_names_units_members_and_estimator(scores):
    lines = score_table(scores).splitlines()
    assert len(lines) == 1 + 9 + 1
    assert len({len(line) for line in lines[:-1]}) == 1
    assert lines[1].startswith("2m_temperature [K]")
    assert " 18 h " in lines[3]
    assert lines[-1].startswith("3 members, 7 initial times")
    assert lines[-1].endswith("fair CRPS")


def by_region(scores: xr.Dataset) -> xr.Dataset:
    """Scores by region: twice the CRPS in the south, in which the first variable is unknown."""
    names = [name for name in ("crps", "crpss_climatology", "spread_skill_ratio") if name in scores]
    south = scores[names].assign(crps=2 * scores["crps"])
    both = xr.concat([scores[names], south], "region").assign_coords(region=["north", "south"])
    return both.transpose("variable", "region", "lead_time").assign_attrs(scores.attrs)


def test_summary_tells_regions_apart(scores):
    result = summary(by_region(scores))
    assert list(result["regions"]) == ["north", "south"]
    assert result["variables"] == result["regions"]["north"]
    north, south = (result["regions"][name]["2m_temperature"]["6"] for name in ("north", "south"))
    assert south["crps"] == 2 * north["crps"]
    with pytest.raises(InputError, match="by season"):
        summary(scores.expand_dims(season=["DJF"]))


def test_table_has_a_line_for_each_region(scores):
    lines = score_table(by_region(scores)).splitlines()
    assert len(lines) == 1 + 18 + 1
    assert len({len(line) for line in lines[:-1]}) == 1
    assert lines[0].split()[:3] == ["variable", "region", "lead"]
    assert [line.split()[2] for line in lines[1:7]] == ["north"] * 3 + ["south"] * 3


@pytest.fixture
def comparison() -> xr.Dataset:
    dims = ("variable", "region", "lead_time")
    relative = np.array([[[-0.2, 0.104], [0.0, np.nan]], [[0.5, -0.01], [-0.3, -0.0001]]])
    p = np.array([[[0.001, 0.03], [1.0, np.nan]], [[0.002, 0.6], [np.nan, 0.9]]])
    return xr.Dataset(
        {
            "difference": (dims, 3 * relative),
            "relative_difference": (dims, relative),
            "p_value": (dims, p),
            "significant": (dims, p < 0.01),
        },
        {
            "variable": ["t", "geopotential_500"],
            "region": ["north", "south"],
            "lead_time": np.array([6, 240], dtype="timedelta64[h]").astype("timedelta64[ns]"),
        },
        {"score": "crps", "test": "adaptive", "level": 0.95, "better": "lower"},
    )


def test_scorecard_says_who_is_better_and_how_sure_that_is(comparison):
    card = scorecard(comparison)
    assert card["verdict"].values.tolist() == [[[1, -1], [0, 0]], [[-1, 1], [1, 1]]]
    assert card["evidence"].values.tolist() == [[[2, 1], [0, -1]], [[2, 0], [-1, 0]]]
    np.testing.assert_allclose(card["percent"][0, 0], [-20, 10.4])
    higher = scorecard(comparison.assign_attrs(better="higher"))
    xr.testing.assert_equal(higher["verdict"], -card["verdict"])
    assert (scorecard(comparison.assign_attrs(better="neither"))["verdict"] == 0).all()


def test_scorecard_table_marks_what_is_significant(comparison):
    assert scorecard_table(comparison).splitlines() == [
        "variable          region     6 h    240 h",
        "t                 north   -20.0%*  +10.4%.",
        "t                 south    +0.0%        -",
        "geopotential_500  north   +50.0%*   -1.0%",
        "geopotential_500  south   -30.0%?   +0.0%",
        "crps, first relative to second; lower is better",
        "* significant, false discovery rate 5% (adaptive test); . taken alone only; ? not tested",
        "first significantly better in 1 of 8, worse in 1",
    ]
    neither = scorecard_table(comparison.assign_attrs(better="neither")).splitlines()
    assert neither[-1] == "significant in 2 of 8"


def test_scorecard_shows_a_comparison_as_it_comes():
    rng = np.random.default_rng(1)
    dims = ("variable", "init_time", "lead_time")
    coords = {
        "variable": ["t", "z"],
        "init_time": np.arange("2020-01-01", "2020-02-10", dtype="datetime64[D]").astype(
            "datetime64[ns]"
        ),
        "lead_time": np.array([6, 12, 24], dtype="timedelta64[h]").astype("timedelta64[ns]"),
    }
    first, second = (
        xr.Dataset(
            {
                "sum_weight": (dims, np.ones((2, 40, 3))),
                "sum_absolute_error": (dims, mean + rng.uniform(size=(2, 40, 3))),
            },
            coords,
        )
        for mean in (1.0, 2.0)
    )
    text = scorecard_table(compare(first, second, score="mae"))
    assert text.endswith("first significantly better in 6 of 6, worse in 0")
    assert [line.count("*") for line in text.splitlines()[1:3]] == [3, 3]


def test_scorecard_refuses_what_is_no_comparison(scores, comparison):
    with pytest.raises(InputError, match="holds no difference"):
        scorecard(scores)
    with pytest.raises(InputError, match="holds no level"):
        scorecard_table(comparison.drop_attrs())


def test_scores_written_are_read_back_identical(scores, tmp_path):
    write_scores(scores, tmp_path / "scores.zarr")
    back = open_scores(tmp_path / "scores.zarr")
    xr.testing.assert_identical(back, scores)
    assert back["variable"].values.tolist() == scores["variable"].values.tolist()
    assert [path.name for path in tmp_path.iterdir()] == ["scores.zarr"]
    write_scores(back, tmp_path / "again.zarr")
    xr.testing.assert_identical(open_scores(tmp_path / "again.zarr"), scores)


def test_scores_written_twice_are_replaced_whole(scores, tmp_path):
    path = tmp_path / "scores.zarr"
    write_scores(scores, path)
    write_scores(scores.isel(variable=[1], init_time=[0, 1]), path)
    xr.testing.assert_identical(open_scores(path), scores.isel(variable=[1], init_time=[0, 1]))
    assert [path.name for path in tmp_path.iterdir()] == ["scores.zarr"]


def test_a_failed_write_leaves_the_scores_that_were_there(scores, tmp_path, monkeypatch):
    path = tmp_path / "scores.zarr"
    write_scores(scores, path)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(xr.Dataset, "to_zarr", full)
    with pytest.raises(StorageError, match="No space left"):
        write_scores(scores.isel(variable=[1]), path)
    xr.testing.assert_identical(open_scores(path), scores)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.zarr"]


def test_scores_are_restored_when_the_new_ones_cannot_take_their_name(
    scores, tmp_path, monkeypatch
):
    path = tmp_path / "scores.zarr"
    write_scores(scores, path)
    rename = os.rename

    def refuse_new(source: object, target: object) -> None:
        if str(source).endswith(PARTIAL_SUFFIX):
            raise OSError(5, "Input/output error")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse_new)
    with pytest.raises(StorageError, match="Input/output error"):
        write_scores(scores.isel(variable=[1]), path)
    xr.testing.assert_identical(open_scores(path), scores)


def test_an_interrupted_replacement_loses_nothing(scores, tmp_path, monkeypatch):
    path = tmp_path / "scores.zarr"
    write_scores(scores, path)
    rename = os.rename

    def interrupt_new(source: object, target: object) -> None:
        if str(source).endswith(PARTIAL_SUFFIX):
            raise KeyboardInterrupt
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", interrupt_new)
        with pytest.raises(KeyboardInterrupt):
            write_scores(scores.isel(variable=[1]), path)
    remove_leftovers(tmp_path)
    assert [left.name for left in tmp_path.iterdir()] == ["scores.zarr"]
    xr.testing.assert_identical(open_scores(path), scores)


def test_nothing_but_scores_is_replaced(scores, tmp_path):
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "data.txt").write_text("keep me")
    with pytest.raises(StorageError, match="not replaced"):
        write_scores(scores, folder)
    assert (folder / "data.txt").read_text() == "keep me"


def test_a_flipped_bit_is_found(scores, tmp_path):
    path = tmp_path / "scores.zarr"
    write_scores(scores, path)
    chunk = next(p for p in (path / "sum_over" / "c").rglob("*") if p.is_file())
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(StorageError, match="could not be read"):
        open_scores(path)


def test_missing_foreign_and_newer_stores_are_refused(scores, tmp_path):
    with pytest.raises(MissingInputError):
        open_scores(tmp_path / "nothing.zarr")
    xr.Dataset({"a": ("x", [1.0])}).to_zarr(tmp_path / "other.zarr", consolidated=False)
    with pytest.raises(InputError, match="does not hold scores"):
        open_scores(tmp_path / "other.zarr")
    write_scores(scores, tmp_path / "scores.zarr")
    root = tmp_path / "scores.zarr" / "zarr.json"
    meta = json.loads(root.read_text())
    meta["attributes"]["format_version"] = 99
    root.write_text(json.dumps(meta))
    with pytest.raises(InputError, match="version 99"):
        open_scores(tmp_path / "scores.zarr")
