"""New dates: keyed by time, all or nothing, and readers see the old or the new."""

import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from weatherdiff.data import prepare as module
from weatherdiff.data.append import append
from weatherdiff.data.prepare import prepare
from weatherdiff.data.store import FieldStore
from weatherdiff.data.storing import manifest, shards
from weatherdiff.data.windows import Period, WindowSpec, find_windows
from weatherdiff.errors import GridMismatchError, InputError, LockedError
from weatherdiff.staging import locked

FRAMES, SHARD = 60, 10
SETTINGS = {"training_period": ("2020-03-01", "2020-03-08"), "step": "6h", "frames": 3}


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_BYTES", SHARD * 4 * 2 * 3 * 5)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fields.zarr"


@pytest.mark.parametrize("steps", [(43, 60), (40, 60), (35, 36, 37, 60), (33, 39, 58, 60)])
def test_a_store_that_grew_has_the_bytes_of_one_prepared_at_once(
    grown, path, tmp_path, steps, content, same
):
    store = prepare(grown.isel(time=slice(steps[0])), path, **SETTINGS)
    before = store.normalizer.to_dict()
    for stop in steps[1:]:
        store = append(grown.isel(time=slice(stop)), path)
        same(store, grown.isel(time=slice(stop)))
    whole = prepare(grown, tmp_path / "whole.zarr", **SETTINGS)
    ours, other = content(path), content(whole.path)
    logs = {name for name in ours | other if name.startswith("fields/") and "json" in name}
    assert {n: v for n, v in ours.items() if n not in logs} == {
        n: v for n, v in other.items() if n not in logs
    }
    assert store.normalizer.to_dict() == before
    np.testing.assert_array_equal(store.valid, whole.valid)
    with xr.open_zarr(path, consolidated=False) as ds:
        assert ds.sizes["time"] == FRAMES
        np.testing.assert_array_equal(ds["time"], grown["time"])
        np.testing.assert_array_equal(ds["fields"], whole.read(np.arange(FRAMES)))


def test_the_old_times_need_not_be_in_the_source_any_more(grown, path, same):
    prepare(grown.isel(time=slice(43)), path, **SETTINGS)
    same(append(grown.isel(time=slice(50, None)), path), grown.isel(time=np.r_[:43, 50:60]))


def test_a_single_new_time_is_added(grown, path, same):
    prepare(grown.isel(time=slice(43)), path, **SETTINGS)
    for time in (43, 44):
        append(grown.isel(time=[time]), path)
    same(FieldStore.open(path), grown.isel(time=slice(45)))


def test_repeats_do_nothing(grown, path, content, same):
    prepare(grown.isel(time=slice(43)), path, **SETTINGS)
    append(grown, path)
    before = content(path)
    changed = grown.copy(deep=True)
    changed["2m_temperature"] += 1  # what is there stays
    store = append(changed.isel(time=slice(20, 60)), path)
    assert content(path) == before
    same(store, grown)


def test_times_between_those_of_the_store_are_left_out_and_said(grown, path, caplog, same):
    prepare(grown.isel(time=np.delete(np.arange(43), [30, 31])), path, **SETTINGS)
    with caplog.at_level(logging.WARNING):
        store = append(grown, path)
    assert "2 times before its last one are new, the first is 2020-03-08T18" in caplog.text
    same(store, grown.isel(time=np.delete(np.arange(FRAMES), [30, 31])))


def test_mask_and_statistics_stay_and_what_differs_is_said(grown, path, caplog):
    old = prepare(grown.isel(time=slice(43)), path, **SETTINGS)
    later = grown.copy(deep=True)
    later["2m_temperature"][45, 1, 2] = 285.0  # the sea has no temperature
    later["2m_temperature"][46, 0, 0] = np.nan
    later["2m_temperature"][45, 2, 2] = np.nan  # as many cells as ever have data, but not the same
    later["2m_temperature"][47:] += 30
    with caplog.at_level(logging.INFO):
        store = append(later, path)
    assert np.flatnonzero(~store.valid).tolist() == [45, 46]
    assert store.metadata["frames_with_gaps"] == 2
    np.testing.assert_array_equal(store.mask, old.mask)
    assert store.normalizer.to_dict() == old.normalizer.to_dict()
    assert "2 of the 17 new frames have missing data" in caplog.text
    assert "2m_temperature has data in 1 new frames where it never had any" in caplog.text
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert any("2m_temperature of the new frames has anomalies of mean 2" in w for w in warnings)
    assert not any("precipitation_flux of the new" in w for w in warnings)
    (addition,) = store.metadata["additions"]
    assert addition["frames"] == [43, 60]
    assert addition["last"] == "2020-03-16T06:00:00"
    new = slice(43, 60)
    state = store.normalizer.state(store.read(np.arange(43, 60)), store.times[new])[:, 1]
    area = np.broadcast_to(store.grid.area_weights().to_numpy(), state.shape)
    mean = np.average(state.astype(float), weights=area)
    assert addition["drift"]["precipitation_flux"]["mean"] == pytest.approx(mean, abs=1e-5)


def test_channels_in_another_order_are_put_in_that_of_the_store(layered, path, same):
    ds = layered(60)
    prepare(ds.isel(time=slice(43)).sortby("latitude"), path, **SETTINGS)
    other = ds.isel(level=[1, 0])[["2m_temperature", "temperature"]].sortby("latitude")
    store = append(other, path)
    assert store.channels.labels == ("temperature_500", "temperature_850", "2m_temperature")
    same(store, ds.sortby("latitude"))
    for number, field in enumerate(
        (ds["temperature"].sel(level=500), ds["temperature"].sel(level=850), ds["2m_temperature"])
    ):
        np.testing.assert_array_equal(
            store.read(np.arange(60))[:, number], field.sortby("latitude")
        )


def test_channels_that_lack_and_that_are_new_are_named(layered, path):
    ds = layered(60).sortby("latitude").rename({"2m_temperature": "soil"})
    prepare(ds.isel(time=slice(43)), path, **SETTINGS)
    other = ds.assign_coords(level=[500, 700]).rename({"soil": "lake"})
    with pytest.raises(
        InputError, match=r"lack temperature_850, soil, and have temperature_700, lake besides"
    ):
        append(other, path)
    colder = ds.assign(soil=ds["soil"].assign_attrs(units="degC"))
    with pytest.raises(InputError, match="soil in K, the data in degC"):
        append(colder, path)


def test_a_gap_before_new_dates_is_told_and_kept_and_has_no_windows(grown, path, caplog):
    full = regular(grown)
    prepare(full.isel(time=slice(40)), path, **SETTINGS)
    with caplog.at_level(logging.WARNING):
        store = append(full.isel(time=[45, 46, 47, 50, 51, 52, 53]), path)
    assert "7 frames are absent before or between the new ones: 36 h after" in caplog.text
    end, between = (str(full.time.values[n].astype("M8[s]")) for n in (39, 47))
    plan = store.metadata["plan"]
    assert plan["absent"] == 7
    assert plan["gaps"] == [[end, 36 * 3600], [between, 18 * 3600]]
    spec = WindowSpec(history=2, frames=1, step=6 * 3600)
    everything = Period(int(store.times[0]), int(store.times[-1]))
    found = find_windows(store.times, store.valid, spec, everything)
    assert (np.diff(store.times[found.indices], axis=1) == 6 * 3600).all()
    new = found.indices[found.indices[:, -1] >= 40]
    np.testing.assert_array_equal(new, [[40, 41, 42], [43, 44, 45], [44, 45, 46]])
    caplog.clear()
    store = append(full.isel(time=slice(54, 60)), path)
    assert "absent" not in caplog.text
    assert FieldStore.open(path).metadata["plan"] == plan


def test_new_times_off_the_step_are_told(grown, path, caplog):
    full = regular(grown)
    prepare(full.isel(time=slice(40)), path, **SETTINGS)
    later = full.isel(time=slice(40, 46))
    later = later.assign_coords(time=later.time + np.timedelta64(1, "h"))
    with caplog.at_level(logging.WARNING):
        append(later, path)
    assert "6 new times, the first at " in caplog.text
    assert "no whole steps of 6 h" in caplog.text


def regular(ds):
    """The same without the frames' own gaps."""
    start, step = ds.time.values[0], np.timedelta64(6, "h")
    return ds.assign_coords(time=start + np.arange(ds.sizes["time"]) * step)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda ds: ds.drop_vars("precipitation_flux"), InputError, "has the channels"),
        (lambda ds: ds.isel(latitude=slice(2)), GridMismatchError, "fields.zarr"),
        (lambda ds: ds.where(ds.time < ds.time[50], np.inf), InputError, "time index 50"),
        (lambda ds: ds.where(ds.time < ds.time[50], -1), InputError, "precipitation_flux: .*bound"),
    ],
)
def test_what_does_not_fit_is_refused_and_the_store_stays(
    grown, path, change, error, message, same
):
    old = prepare(grown.isel(time=slice(43)), path, **SETTINGS)
    wrong = change(grown)
    for name in wrong.data_vars:
        wrong[name].attrs = grown[name].attrs
    with pytest.raises(error, match=message):
        append(wrong, path)
    again = FieldStore.open(path)
    assert again.metadata == old.metadata
    same(again, grown.isel(time=slice(43)))
    same(append(grown, path), grown)  # and the right ones can be added afterwards


def test_at_every_step_readers_see_the_old_or_the_new(grown, path, monkeypatch, same):
    old = prepare(grown.isel(time=slice(43)), path, **SETTINGS)
    seen = []

    def look(*arguments, **options):
        told = put(*arguments, **options)
        store = FieldStore.open(path)
        seen.append(len(store.times))
        same(store, grown.isel(time=slice(seen[-1])))
        same(old, grown.isel(time=slice(43)))  # opened before
        assert store.to_dataset().sizes["time"] == seen[-1]
        with pytest.raises(LockedError):
            append(grown, path)
        return told

    put = shards.put_file
    for name in ("tasks", "create", "manifest"):
        monkeypatch.setattr(f"weatherdiff.data.storing.{name}.put_file", look)
    append(grown, path)
    assert seen == [43] * (len(seen) - 1) + [60]
    assert len(seen) > 15


def test_a_frame_never_moves_in_its_file(grown, path):
    prepare(grown.isel(time=slice(43)), path, **SETTINGS)
    file = path / "fields/c/4/0/0/0"
    before = shards.unpack_shard(file, SHARD)
    append(grown, path)
    grown_file = file.read_bytes()
    assert grown_file.startswith(b"".join(before))
    assert len(shards.unpack_shard(file, SHARD)) == SHARD


def test_a_store_of_the_first_version_opens_and_does_not_grow(grown, path, same):
    store = prepare(grown.isel(time=slice(43)), path, **SETTINGS)
    (path / "fields/manifest.json").unlink()
    shutil.rmtree(path / "moments")
    file = path / "zarr.json"
    document = json.loads(file.read_text())
    document["attributes"]["weatherdiff"]["version"] = 1
    file.write_text(json.dumps(document))
    old = FieldStore.open(path)
    assert old.shape == store.shape
    same(old, grown.isel(time=slice(43)))
    with pytest.raises(InputError, match=r"older version.*--overwrite"):
        append(grown, path)


@pytest.mark.parametrize("damage", ["lost", "cut", "changed"])
def test_without_its_manifest_a_store_is_damaged(grown, path, damage):
    prepare(grown.isel(time=slice(43)), path, **SETTINGS)
    file = path / "fields/manifest.json"
    text = file.read_text()
    if damage == "lost":
        file.unlink()
    else:
        file.write_text(text[:-9] if damage == "cut" else text.replace("43", "42"))
    with pytest.raises(InputError, match="is damaged"):
        FieldStore.open(path)


def test_nobody_adds_while_another_does(grown, path):
    prepare(grown.isel(time=slice(43)), path, **SETTINGS)
    with locked(path / "fields/writing"), pytest.raises(LockedError):
        append(grown, path)


def test_the_manifest_of_many_additions_is_no_longer_than_that_of_a_few(grown, path, monkeypatch):
    monkeypatch.setattr(manifest.merge_additions, "__kwdefaults__", {"recent": 2})
    prepare(grown.isel(time=slice(43)), path, **SETTINGS)
    sizes = []
    for stop in range(44, 54):
        store = append(grown.isel(time=slice(stop)), path)
        sizes.append((path / "fields/manifest.json").stat().st_size)
    assert max(sizes[4:]) < sizes[3] + 100
    merged, *last = store.metadata["additions"]
    assert (merged["frames"], merged["merged"]) == ([43, 51], 8)
    assert [addition["frames"] for addition in last] == [[51, 52], [52, 53]]
    assert store.metadata["plan"]["absent"] == 2


def test_the_additions_of_an_older_manifest_are_merged_with_the_next(grown, path, same):
    prepare(grown.isel(time=slice(43)), path, **SETTINGS)
    append(grown.isel(time=slice(44)), path)
    known = manifest.Manifest.read(path)
    replace(known, additions=known.additions * 500).write(path)
    assert len(FieldStore.open(path).metadata["additions"]) == 500
    store = append(grown, path)
    assert len(store.metadata["additions"]) == manifest.RECENT + 1
    same(store, grown)


@given(
    st.lists(
        st.tuples(st.integers(1, 30), st.floats(-3, 3), st.floats(0, 3), st.booleans()),
        min_size=3, max_size=12,
    )
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_drift_merged_bit_by_bit_is_that_merged_at_once(parts):
    additions, stop = [], 0
    for count, mean, std, known in parts:
        drift = {"t": {"mean": mean, "std": std}, "q": None}
        entry = {"frames": [stop, stop + count], "first": "a", "last": "b", "drift": drift}
        additions.append(entry | ({"absent": 1, "gaps": [["a", 5]]} if known else {}))
        stop += count
    grown = ()
    for addition in additions:
        grown = manifest.merge_additions((*grown, addition), recent=1)
    once = manifest.merge_additions(additions, recent=1)
    assert grown[0]["frames"] == once[0]["frames"]
    assert grown[0]["merged"] == once[0]["merged"] == len(parts) - 1
    assert grown[0].get("absent") == once[0].get("absent")
    for name in ("mean", "std"):
        one, other = (g[0]["drift"]["t"][name] for g in (grown, once))
        assert one == pytest.approx(other, abs=1e-6)
    assert once[0]["drift"]["q"] is None
    assert once[1] == additions[-1]


def test_the_packing_of_an_older_manifest_is_gone_on_with(grown, path, tmp_path):
    store = prepare(grown.isel(time=slice(43)), path, profile="packed", **SETTINGS)
    shutil.copytree(path, tmp_path / "older.zarr")
    known = manifest.Manifest.read(path)
    for told in known.packing.values():
        del told["moments"]
    known.write(tmp_path / "older.zarr")
    assert FieldStore.open(tmp_path / "older.zarr").shape == store.shape
    ours, older = (append(grown, p).metadata["packing"] for p in (path, tmp_path / "older.zarr"))
    whole = prepare(grown, tmp_path / "whole.zarr", profile="packed", **SETTINGS)
    for label, told in whole.metadata["packing"].items():
        for other in (ours, older):
            assert other[label]["rms_error_of_std"] == pytest.approx(told["rms_error_of_std"])
            assert other[label]["moments"] == pytest.approx(told["moments"])
