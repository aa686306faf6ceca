"""A forecast is made unit by unit; what is done stays done, what is damaged is made again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from weatherdiff.errors import InputError, LockedError, StorageError
from weatherdiff.forecasting import Forecaster, open_forecasts
from weatherdiff.forecasting.forecaster import Sampling
from weatherdiff.forecasting.manifest import MANIFEST, read_manifest
from weatherdiff.forecasting.work import Work
from weatherdiff.forecasting.writer import verify_forecast

INIT = "2020-01-30T06"
SAMPLING = Sampling(steps=1, member_block=2, precision="fp32")
MEMBERS, FRAMES = 5, 5


@pytest.fixture
def work(announce: Callable[..., Work]) -> Callable[..., Work]:
    """Announce five members, in units of two."""

    def make(folder: str = "forecasts", **attributes: Any) -> Work:
        return announce(folder, {"seed": 0, **attributes}, members=MEMBERS, frames=FRAMES)

    return make


@pytest.fixture
def draw(forecaster: Forecaster, small_analyses: xr.Dataset) -> Callable[..., Iterator]:
    """Draw the members with some numbers."""

    def blocks(numbers: range) -> Iterator[xr.Dataset]:
        return forecaster.rollout(
            small_analyses, init_time=INIT, frames=FRAMES, members=numbers, sampling=SAMPLING
        )

    return blocks


def finish(work: Work, draw: Callable, **record: Any) -> Path:
    work.begin()
    for unit in work.due():
        work.put(unit, draw(work.units[unit]))
    return work.publish(record)


def files_of(path: Path) -> dict[str, bytes]:
    names = [f for f in path.rglob("*") if f.is_file() and f.name != MANIFEST]
    return {f.relative_to(path).as_posix(): f.read_bytes() for f in names}


def test_units_make_the_forecast_that_all_members_at_once_make(
    work: Callable, draw: Callable, forecaster: Forecaster, small_analyses: xr.Dataset
) -> None:
    path = finish(work(), draw, note="made in units")
    whole = forecaster.forecast(
        small_analyses, init_time=INIT, lead_time="30h", members=MEMBERS, sampling=SAMPLING
    )
    found = open_forecasts(path).load()
    found.attrs = {}
    xr.testing.assert_identical(found, whole)
    verify_forecast(path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert read_manifest(path)[0] == {"note": "made in units"}


def test_a_unit_that_is_done_is_not_made_again_and_the_result_is_the_same_bytes(
    work: Callable, draw: Callable
) -> None:
    first = work()
    first.begin()
    first.put(1, draw(first.units[1]))
    half = draw(first.units[0])
    with pytest.raises(InputError, match="has 3 frames, 5 were expected"):
        first.put(0, [next(half)])
    again = work()
    again.begin()
    assert again.due() == [0, 2]
    resumed = finish(again, draw)
    uninterrupted = finish(work("elsewhere"), draw)
    assert files_of(resumed) == files_of(uninterrupted)


def test_a_damaged_object_costs_its_unit_alone(work: Callable, draw: Callable) -> None:
    first = work()
    first.begin()
    for unit in first.due():
        first.put(unit, draw(first.units[unit]))
    damaged = first.hidden / "forecast" / "geopotential" / "c" / "0" / "1" / "1" / "0" / "0" / "0"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(StorageError, match="geopotential/c/0/1/1/0/0/0 was altered"):
        first.publish({})
    assert not first.path.exists()
    again = work()
    again.begin()
    assert again.due() == [1]
    assert files_of(finish(again, draw)) == files_of(finish(work("elsewhere"), draw))


@pytest.mark.parametrize("name", ["run.json", "units/0000.json", "forecast/zarr.json"])
def test_a_damaged_record_is_not_believed(work: Callable, draw: Callable, name: str) -> None:
    first = work()
    first.begin()
    first.put(0, draw(first.units[0]))
    text = (first.hidden / name).read_text()
    (first.hidden / name).write_text(text.replace("0", "1", 1))
    again = work()
    again.begin()
    assert again.due() == [0, 1, 2]
    assert files_of(finish(again, draw)) == files_of(finish(work("elsewhere"), draw))


def test_work_with_other_settings_is_not_gone_on_with(work: Callable, draw: Callable) -> None:
    first = work(model="old")
    first.begin()
    first.put(0, draw(first.units[0]))
    second = work(model="new")
    second.begin()
    assert second.due() == [0, 1, 2]
    path = finish(second, draw)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_values_that_are_not_finite_are_refused(work: Callable, draw: Callable) -> None:
    first = work()
    first.begin()
    blocks = [block.load() for block in draw(first.units[2])]
    blocks[1]["geopotential"][0, 1, 0, 1, 2, 3] = np.inf
    with pytest.raises(InputError, match=r"not finite: geopotential in .* of members 4 to 4"):
        first.put(2, blocks)
    assert first.due() == [0, 1, 2]


def test_members_and_times_of_another_unit_are_refused(work: Callable, draw: Callable) -> None:
    first = work()
    first.begin()
    with pytest.raises(InputError, match="the numbers"):
        first.put(1, draw(first.units[0]))
    with pytest.raises(InputError, match="Lead times"):
        first.put(0, list(draw(first.units[0]))[::-1])


def test_a_forecast_that_is_there_is_replaced_only_on_request(
    work: Callable, draw: Callable
) -> None:
    path = finish(work(), draw)
    first = work(model="new")
    first.begin()
    for unit in first.due():
        first.put(unit, draw(first.units[unit]))
    with pytest.raises(StorageError, match="exists already"):
        first.publish({})
    first.publish({}, overwrite=True)
    assert open_forecasts(path).attrs["model"] == "new"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_one_process_makes_a_forecast_or_several_share_it(work: Callable) -> None:
    with work().locked(shared=True), work().locked(shared=True):  # noqa: SIM117
        with pytest.raises(LockedError), work().locked():
            pass
    with work().locked(), pytest.raises(LockedError), work().locked(shared=True):
        pass
