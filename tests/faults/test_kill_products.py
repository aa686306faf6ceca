"""kill -9 of a run that keeps no members: the next one goes on from the last block of frames."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from weatherdiff.forecasting import open_products
from weatherdiff.forecasting.writer import verify_forecast

NAME = "2020-01-30T06.zarr"
BATCH = ("--now", "2020-01-30T07:00", "--max-lateness", "2h")
PRODUCTS = {
    "mean": True,
    "spread": True,
    "quantiles": [0.1, 0.5, 0.9],
    "exceedance": [
        {"variable": "mean_sea_level_pressure", "above": [101325.0], "below": [1e5, 101325.0]}
    ],
}


def lay_out(site: Callable, **forecast: Any) -> Any:
    """Give an output folder whose forecasts are products."""
    here = site()
    document = yaml.safe_load(here.config.read_text())
    document["forecast"] |= {"products": PRODUCTS, **forecast}
    here.config.write_text(yaml.safe_dump(document))
    return here


@pytest.fixture
def uninterrupted(
    runs: Callable, site: Callable, hashes: Callable, tmp_path: Path, kept: dict[str, Any]
) -> tuple[dict[str, str], int]:
    """Content of the forecast of a whole run, and the points at which it might be killed."""
    if not kept:
        here = lay_out(site, keep_members=False)
        code, text = runs("batch", here.config, *BATCH, count=str(tmp_path / "count"))
        assert code == 0, text
        units = [e for e in map(json.loads, text.splitlines()) if e["event"] == "unit"]
        assert [(u["unit"], u["of"], u["members"]) for u in units] == [(0, 2, 5), (1, 2, 5)]
        assert here.hidden == []
        kept["content"] = hashes(here.forecasts / NAME)
        kept["count"] = len(json.loads((tmp_path / "count").read_text()))
    return kept["content"], kept["count"]


@pytest.mark.attempts("seed", 2, 20)
def test_a_run_without_members_killed_at_any_point_goes_on(
    runs: Callable, site: Callable, hashes: Callable, uninterrupted: tuple, seed: int
) -> None:
    whole, count = uninterrupted
    here = lay_out(site, keep_members=False)
    point = random.Random(seed).randint(1, count)  # noqa: S311
    assert runs("batch", here.config, *BATCH, kill=point)[0] == -9
    for name in here.visible:
        verify_forecast(here.forecasts / name)
    done = len(list(here.forecasts.glob(".*.work/units/*.json"))) if not here.visible else 2
    code, text = runs("batch", here.config, *BATCH)
    assert code == 0, text
    assert here.visible == [NAME]
    assert here.hidden == []
    assert hashes(here.forecasts / NAME) == whole
    assert text.count('"event": "unit"') == 2 - done
    assert runs("verify", here.forecasts)[0] == 0


def test_the_command_forecast_makes_the_same_products_beside_members(
    runs: Callable, site: Callable, hashes: Callable, uninterrupted: tuple
) -> None:
    whole, _ = uninterrupted
    here = lay_out(site)
    code, text = runs("forecast", here.config)
    assert code == 0, text
    ours, theirs = (
        {name: digest for name, digest in found.items() if name.startswith("products/")}
        for found in (hashes(here.forecasts / NAME), whole)
    )
    assert any("/c/" in name for name in ours)
    del ours["products/zarr.json"], theirs["products/zarr.json"]  # which tell how they were made
    assert ours == theirs
    assert "mean_sea_level_pressure_below" in open_products(here.forecasts)


@pytest.mark.deep
def test_a_forecast_without_members_is_one_share(
    runs: Callable, site: Callable, hashes: Callable, uninterrupted: tuple
) -> None:
    here = lay_out(site, keep_members=False)
    published = []
    for share in ("1/2", "2/2"):
        code, text = runs("batch", here.config, *BATCH, "--shard", share)
        assert code == 0, text
        published.append(text.count('"event": "published"'))
    assert sorted(published) == [0, 1]
    assert hashes(here.forecasts / NAME) == uninterrupted[0]


def test_a_threshold_of_an_unknown_variable_ends_with_78(runs: Callable, site: Callable) -> None:
    here = lay_out(site)
    code, text = runs(
        "forecast", here.config, "--set", "forecast.products.exceedance=[{variable: t, above: [1]}]"
    )
    assert code == 78
    assert "no variable 't'" in text
