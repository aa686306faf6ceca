"""The user's own data give the batches that they would give when prepared."""

import logging

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weatherdiff.data.loader import WindowDataset
from weatherdiff.data.loading.gain import measure_gain
from weatherdiff.data.loading.order import ExactOrder, PoolOrder
from weatherdiff.data.loading.unprepared import SourceReader, open_unprepared, spans
from weatherdiff.data.open import open_fields
from weatherdiff.data.prepare import prepare
from weatherdiff.data.sources.source import Source
from weatherdiff.data.windows import Period, WindowSpec, find_windows
from weatherdiff.errors import ConfigError, InputError

SPEC = WindowSpec(history=2, frames=2, step=2 * 6 * 3600)
SETTINGS = {"training_period": ("2020-03-01", "2020-03-12"), "step": "12h", "frames": 2}
PLACES = ("latitude", "longitude")


def windows_of(fields, **options):
    found = find_windows(fields.times, fields.valid, SPEC, Period(0, 2**40))
    return WindowDataset(fields, found, SPEC, ("time_of_day",), **options)


def require_same(one, other):
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a, b)


@pytest.fixture(scope="module")
def gappy(grown):
    """With a static field, and a value missing in one frame."""
    ds = grown.copy(deep=True)
    ds["2m_temperature"][37, 0, 3] = np.nan
    height = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    return ds.assign(orography=(PLACES, height, {"units": "m"}))


@pytest.fixture(scope="module")
def prepared(gappy, tmp_path_factory):
    return prepare(gappy, tmp_path_factory.mktemp("prepared") / "fields.zarr", **SETTINGS)


@pytest.fixture(scope="module")
def batch(prepared):
    windows = windows_of(prepared)
    return windows.__getitems__([7, 0, len(windows) - 1])


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_way_of_storing_the_data_gives_the_batches_of_the_prepared_store(
    gappy, batch, tmp_path_factory, data
):
    folder = tmp_path_factory.mktemp("source")
    ds = gappy
    if data.draw(st.booleans(), "north to south"):
        ds = ds.isel(latitude=slice(None, None, -1))
    if data.draw(st.booleans(), "longitudes from 0 to 360"):
        ds = ds.assign_coords(longitude=ds.longitude % 360).sortby("longitude")
    if data.draw(st.booleans(), "longitude first"):
        ds = ds.transpose("longitude", "latitude", "time")
    cuts = sorted(data.draw(st.sets(st.integers(1, 59), max_size=2), "cuts"))
    pieces = [ds.isel(time=slice(a, b)) for a, b in zip([0, *cuts], [*cuts, 60], strict=True)]
    if data.draw(st.booleans(), "one file for each variable"):
        pieces = [piece[[name]] for piece in pieces for name in piece.data_vars]
    pieces = data.draw(st.permutations(pieces), "order of the files")
    kind = data.draw(st.sampled_from(["zarr 2", "zarr 3", "netcdf"]), "format")
    chunk = data.draw(st.integers(1, 60), "times of a chunk")
    paths = []
    for number, piece in enumerate(pieces):
        path = folder / f"{number}.{kind[:4].strip()}"
        sizes = {
            n: [min(chunk, v.sizes[d]) if d == "time" else v.sizes[d] for d in v.dims]
            for n, v in piece.data_vars.items()
        }
        if kind == "netcdf":
            encoding = {n: {"chunksizes": size} for n, size in sizes.items()}
            piece.to_netcdf(path, engine="netcdf4", encoding=encoding)
        else:
            encoding = {n: {"chunks": tuple(size)} for n, size in sizes.items()}
            piece.to_zarr(path, zarr_format=int(kind[-1]), encoding=encoding, consolidated=False)
        paths.append(path)
    names = list(gappy.data_vars)
    fields = open_unprepared(
        open_fields(paths, variables=names), folder / "statistics.npz", **SETTINGS
    )
    windows = windows_of(fields, cache_bytes=data.draw(st.sampled_from([0, 2**30]), "cache"))
    require_same(windows.__getitems__([7, 0, len(windows) - 1]), batch)


def test_statistics_mask_and_gaps_are_those_of_the_prepared_store(gappy, prepared, tmp_path):
    fields = open_unprepared(gappy, tmp_path / "statistics.npz", **SETTINGS)
    for name, values in prepared.normalizer.arrays().items():
        np.testing.assert_array_equal(fields.normalizer.arrays()[name], values)
    assert fields.normalizer.to_dict() == prepared.normalizer.to_dict()
    np.testing.assert_array_equal(fields.mask, prepared.mask)
    np.testing.assert_array_equal(fields.valid, prepared.valid)
    np.testing.assert_array_equal(fields.times, prepared.times)
    np.testing.assert_array_equal(fields.static, prepared.static)
    assert fields.metadata["frames_with_gaps"] == 1
    assert fields.shape == prepared.shape


@pytest.mark.parametrize("fill", [None, "climatology"])
def test_filled_or_left_out_the_windows_are_the_same(gappy, tmp_path, fill):
    store = prepare(gappy, tmp_path / "fields.zarr", fill=fill, **SETTINGS)
    fields = open_unprepared(gappy, tmp_path / "statistics.npz", fill=fill, **SETTINGS)
    one, other = windows_of(store), windows_of(fields)
    assert len(one) == len(other)
    rows = list(range(len(one)))
    require_same(one.__getitems__(rows), other.__getitems__(rows))


@pytest.mark.parametrize(("order", "threads"), [(ExactOrder, 3), (PoolOrder, 0)])
def test_threads_stream_the_batches_of_the_prepared_store(
    gappy, prepared, tmp_path, order, threads
):
    fields = open_unprepared(gappy, tmp_path / "statistics.npz", **SETTINGS)
    one, other = windows_of(prepared, cache_bytes=0), windows_of(fields, cache_bytes=0)
    same = order(len(one), 4, 3)
    for a, b in zip(
        one.stream(same, threads=2).steps(0, 6),
        other.stream(same, threads=threads).steps(0, 6),
        strict=True,
    ):
        require_same(a, b)


def test_what_was_found_out_is_read_again_only_when_the_source_has_changed(
    gappy, tmp_path, monkeypatch, caplog
):
    file = tmp_path / "statistics.npz"
    first = open_unprepared(gappy, file, **SETTINGS)
    told = []
    again = open_unprepared(gappy, file, progress=lambda *count: told.append(count), **SETTINGS)
    assert not told
    np.testing.assert_array_equal(again.normalizer.climatology, first.normalizer.climatology)
    changed = gappy.copy(deep=True)
    changed["2m_temperature"] += 1
    other = open_unprepared(changed, file, progress=lambda *count: told.append(count), **SETTINGS)
    assert told[-1] == (60, 60)
    assert np.nanmin(other.normalizer.climatology[0] - first.normalizer.climatology[0]) >= 0
    longer = open_unprepared(changed, file, **{**SETTINGS, "frames": 3})
    assert len(longer.normalizer.tendency_std) == 3
    file.write_bytes(file.read_bytes()[:200])
    with caplog.at_level(logging.WARNING):
        open_unprepared(changed, file, **SETTINGS)
    assert "is damaged" in caplog.text


def test_the_gain_of_preparing_is_measured_on_windows_of_a_piece(gappy, tmp_path, monkeypatch):
    fields = open_unprepared(gappy, tmp_path / "statistics.npz", **SETTINGS)
    monkeypatch.setattr(
        "weatherdiff.data.loading.gain.PIECE_BYTES", 25 * gappy["2m_temperature"][0].nbytes
    )
    monkeypatch.setattr("weatherdiff.data.loading.gain.SECONDS", 0.01)
    indices = windows_of(fields).windows.indices
    read = []
    real = SourceReader.read

    def counted(self, indices, out=None):
        read.append(np.unique(indices))
        return real(self, indices, out)

    monkeypatch.setattr(SourceReader, "read", counted)
    gain = measure_gain(fields, indices, batch_size=4)
    assert gain.frames == 12
    assert max(frames.max() for frames in read) < 12
    assert min(gain.unprepared, gain.prepared) > 0
    assert f"about {gain.prepared:.3g}" in str(gain)


def test_memory_or_not_the_statistics_are_the_same(gappy, prepared, tmp_path, monkeypatch):
    monkeypatch.setattr("weatherdiff.data.loading.unprepared.KEPT_BYTES", 0)
    fields = open_unprepared(gappy, tmp_path / "statistics.npz", **SETTINGS)
    np.testing.assert_array_equal(fields.normalizer.climatology, prepared.normalizer.climatology)


def test_what_prepare_refuses_is_refused(gappy, tmp_path):
    file = tmp_path / "statistics.npz"
    with pytest.raises(ConfigError, match="held out"):
        open_unprepared(gappy, file, held_out=[("2020-03-10", "2020-03-14")], **SETTINGS)
    infinite = gappy.copy(deep=True)
    infinite["precipitation_flux"][3, 0, 0] = np.inf
    with pytest.raises(InputError, match=r"precipitation_flux has infinite values.* 3"):
        open_unprepared(infinite, file, **SETTINGS)
    negative = gappy.copy(deep=True)
    negative["precipitation_flux"][3, 0, 0] = -1
    with pytest.raises(InputError, match="precipitation_flux"):
        open_unprepared(negative, file, **SETTINGS)
    assert not file.exists()


@given(st.lists(st.integers(0, 300), max_size=40))
def test_spans_hold_all_positions_and_at_most_four_frames_for_each(indices):
    found = spans(np.array(indices, np.int64))
    covered = [position for span in found for position in span]
    assert len(covered) == len(set(covered))
    assert set(indices) <= set(covered)
    assert len(covered) <= 4 * max(1, len(set(indices)))


def test_frames_come_in_the_order_asked_for(gappy, prepared):
    source = Source(gappy, prepared.channels)
    wanted = [50, 3, 5, 3, 59, 0]
    np.testing.assert_array_equal(SourceReader(source).read(wanted), prepared.read(wanted))
