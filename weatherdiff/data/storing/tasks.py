"""The tasks of preparing: each writes one shard, and nothing that another task writes.

A task stages its files and renames them, and then logs what they are and their checksums. One that
finds its own entry in the log, and the files as the entry says, has nothing to do. So tasks may run
in any order, at once, on any machine that sees the folder, and again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from weatherdiff.data.calendars import STANDARD
from weatherdiff.data.quality import Looker, without_infinite
from weatherdiff.data.sources.source import Source
from weatherdiff.data.storing.blocks import Blocks, empty
from weatherdiff.data.storing.encoding import Chunk, encode_frame, encode_frames
from weatherdiff.data.storing.frame_sums import FrameSums, frame_sums
from weatherdiff.data.storing.judging import refuse_infinite
from weatherdiff.data.storing.moments import (
    NOTHING,
    STATISTICS,
    Moments,
    change_moments,
    frame_moments,
)
from weatherdiff.data.storing.profiles import Profile
from weatherdiff.data.storing.rounding import merge_errors
from weatherdiff.data.storing.shards import (
    checksum,
    chunk_file,
    damaged,
    decode,
    encode,
    put_file,
    read_shard,
    shard_parts,
    unpack_shard,
)
from weatherdiff.data.windows import Int
from weatherdiff.errors import StorageError
from weatherdiff.sealed import seal, unseal

__all__ = ["CHANGES", "FIELDS", "FRAMES", "LOG", "LOOKS", "SEEN", "Job"]

Array = npt.NDArray[Any]
Entry = dict[str, Any]
Content = bytes | Iterator[bytes]

#: Folders of the arrays, within the store. What is no array lies in that of the fields, where
#: nothing that reads Zarr looks for any.
FIELDS, FRAMES, CHANGES, SEEN = "fields", "moments/frames", "moments/changes", "moments/seen"
LOOKS = "quality/looks"
LOG = "fields/log"

ADVICE = "correct them, or have such frames left out with data.quality: mark"


@dataclass(frozen=True)
class Job:
    """All tasks of one preparation, or of one addition to a store.

    Parameters
    ----------
    source : Source
        The frames to write.
    folder : Path
        The store.
    times : (time,)
        Of the whole store when this is done, in seconds.
    kept : int
        How many frames are in the store already; those of the source come after them.
    shard : int
        Frames of one file.
    leads : (lead,)
        Of the changes whose moments are kept, in seconds.
    key : str
        Names the plan: what another plan has written is not taken for this one's.
    profile : Profile
        How the fields are kept.
    looker : Looker, optional
        Looks at the frames for quality control; a store of an older version has no room for it.
    infinite : {"refused", "missing"}
        What infinite values are.
    calendar : str
        Of the times.
    blocks : Blocks
        Memory for the frames of a task, which the next one takes again.
    """

    source: Source
    folder: Path
    times: Int
    kept: int
    shard: int
    leads: Int
    key: str
    profile: Profile = Profile()  # noqa: RUF009  (it is frozen)
    looker: Looker | None = None
    infinite: str = "refused"
    calendar: str = STANDARD
    blocks: Blocks = field(default_factory=Blocks, compare=False)

    @property
    def indices(self) -> range:
        """The shards that have new frames."""
        return range(self.kept // self.shard, -(-len(self.times) // self.shard))

    @cached_property
    def frame(self) -> tuple[int, int, int]:
        """Shape of a frame: (channel, latitude, longitude)."""
        sizes = self.source.ds.sizes
        return len(self.source.channels), sizes["latitude"], sizes["longitude"]

    def span(self, index: int) -> tuple[int, int]:
        """First frame of a shard, and the one after its last."""
        return index * self.shard, min((index + 1) * self.shard, len(self.times))

    def write_fields(self, index: int) -> Entry:
        """Write one shard, the moments of its frames, and which cells have had data.

        Returns
        -------
        dict
            The entry of the log.

        Raises
        ------
        InputError
            Values are infinite, or the source is damaged.
        """
        found = self._finished("fields", index)
        if found is not None:
            return found
        start, stop = self.span(index)
        old = max(0, self.kept - start)
        with self.blocks.taken((stop - start - old, *self.frame)) as block:
            self.source.read(start + old - self.kept, stop - self.kept, block)
            sums, infinite = self._sums(block, start + old)
            looks = None
            if self.looker is not None:
                looks = np.full((self.shard, self.frame[0], self.looker.size), np.nan, np.float32)
                looks[old : stop - start] = self.looker.look(block, infinite, sums)
            block[infinite > 0] = np.nan  # the whole frame is not to be trusted
            before = self._old_chunks(index, old) if old else []
            # Written as they are encoded; packing changes the block, so it is looked at afterwards.
            errors: list[Array] = []
            shard = self._shard_file(index)
            written = self._put(
                shard, shard_parts(self._encoded(before, block, errors), self.shard)
            )
            table = np.full((self.shard, self.frame[0], len(STATISTICS)), np.nan)
            unchanged = self.profile.lossless and not infinite.any()
            table[old : stop - start] = sums.moments if unchanged else frame_moments(block)
            whole = table[old : stop - start, :, 0] == block[0, 0].size
            # mostly there is a frame without gaps, which tells without another look at all values
            seen: Array = np.ones(self.frame, bool)
            if not whole.any(axis=0).all():
                seen = np.any(~np.isnan(block), axis=0)
        if old:
            table[:old] = self._chunk(FRAMES, index, table)[:old]
            seen |= self._chunk(SEEN, index, seen[None])[0]
        files: dict[Path, Content] = {
            self._chunk_file(FRAMES, index, 2): encode(table),
            self._chunk_file(SEEN, index, 3): encode(seen[None]),
        }
        if looks is not None:
            if old:
                looks[:old] = self._chunk(LOOKS, index, looks)[:old]
            files[self._chunk_file(LOOKS, index, 2)] = encode(looks)
        merged = Moments.merge(table[: stop - start])
        moments = {
            label: {n: x if np.isfinite(x) else None for n, x in zip(STATISTICS, row, strict=True)}
            for label, row in zip(self.source.channels.labels, merged.table.tolist(), strict=True)
        }
        more: Entry = {"moments": moments}
        if not self.profile.lossless:
            more["errors"] = merge_errors(errors).tolist()
        return self._finish("fields", index, files, more, written)

    def _encoded(self, before: list[bytes], block: Array, errors: list[Array]) -> Iterator[Chunk]:
        """Give the chunks of a shard: the bytes of those that it has, then new ones."""
        for chunk in before:
            yield (chunk,)
        for encoded, wrong in encode_frames(block, self.profile, self.folder):
            if wrong is not None:
                errors.append(wrong)
            yield encoded

    def _sums(self, block: Array, start: int) -> tuple[FrameSums, Array]:
        """Sum frames, and give the fraction of values that are infinite, which are missing then."""
        sums = frame_sums(block)
        if not sums.infinite:
            return sums, np.zeros(block.shape[:2])
        if self.infinite != "missing":
            refuse_infinite(
                block, start=start, times=self.times, calendar=self.calendar,
                labels=self.source.channels.labels, advice=ADVICE,
            )  # fmt: skip
        infinite = without_infinite(block)
        return frame_sums(block), infinite

    def write_changes(self, index: int) -> Entry:
        """Write the moments of all changes that end in a shard, wherever they begin.

        Needs all shards to be there. The change over a lead is that from the frame exactly so much
        earlier, over the cells with data in both; where that is absent the count is 0.
        """
        found = self._finished("changes", index)
        if found is not None:
            return found
        start, stop = self.span(index)
        old = max(0, self.kept - start)
        table = np.full((self.shard, len(self.leads), self.frame[0], len(STATISTICS)), np.nan)
        with self.blocks.taken((stop - start - old, *self.frame)) as now:
            self.read(np.arange(start + old, stop), now)
            self._fill_changes(table[old : stop - start], now, start + old, stop)
        if old:
            table[:old] = self._chunk(CHANGES, index, table)[:old]
        files: dict[Path, Content] = {self._chunk_file(CHANGES, index, 3): encode(table)}
        return self._finish("changes", index, files, {})

    def _fill_changes(self, table: Array, now: Array, start: int, stop: int) -> None:
        """Fill the moments of the changes that end in some frames (time, lead, ...)."""
        for number, lead in enumerate(self.leads):
            begin = self.times[start:stop] - lead
            place = np.searchsorted(self.times, begin)
            there = np.flatnonzero(self.times[place] == begin)
            table[:, number] = NOTHING
            outside = there[place[there] < start]
            inside = there[place[there] >= start]
            for rows, frames, places in (
                (outside, self.read(place[outside]), np.arange(len(outside))),
                (inside, now, place[inside] - start),
            ):
                if len(rows):
                    before = frames[_contiguous(places)]
                    table[rows, number] = change_moments(now[_contiguous(rows)], before)

    def read(
        self, indices: Sequence[int] | Int, out: npt.NDArray[np.float32] | None = None
    ) -> npt.NDArray[np.float32]:
        """Read frames that are in the store, ascending by position, perhaps into an array.

        Raises
        ------
        StorageError
            A frame is lost or damaged.
        """
        indices = np.asarray(indices, np.int64)
        if out is None:
            out = empty((len(indices), *self.frame))
        shards, starts = np.unique(indices // self.shard, return_index=True)
        parts = np.split(indices, starts[1:])
        for number, start, part in zip(shards.tolist(), starts.tolist(), parts, strict=False):
            slots, place = part - number * self.shard, slice(start, start + len(part))
            path = self._shard_file(number)
            read_shard(path, self.shard, slots, self.frame, self.profile.decode, out[place])
        return out

    def errors(self) -> Array:
        """Give the measured errors of packing, of all new frames (channel, 3).

        See :func:`weatherdiff.data.storing.rounding.packing_errors`.
        """
        return merge_errors(np.array(e["errors"]) for e in self.entries() if "errors" in e)

    def looks(self, start: int, stop: int) -> Array:
        """Give the looks at frames of the store (time, channel, number)."""
        assert self.looker is not None  # noqa: S101  (for the type checker)
        like = np.empty((self.shard, self.frame[0], self.looker.size), np.float32)
        parts = [
            self._chunk(LOOKS, index, like)[
                max(start - index * self.shard, 0) : stop - index * self.shard
            ]
            for index in range(start // self.shard, -(-stop // self.shard))
        ]
        return np.concatenate(parts)

    def make_missing(self, index: int, bad: Array) -> None:
        """Make frames of some channels of a shard missing, which the log then says.

        Parameters
        ----------
        index : int
            Of a shard that is there.
        bad : (time, channel)
            Of all frames of the store; those that were kept do not change.
        """
        start, stop = self.span(index)
        old = max(0, self.kept - start)
        bad = bad[start + old : stop]
        if not bad.any():
            return
        entry: Entry = unseal(self._log_file("fields", index).read_text())
        marked = np.argwhere(bad).tolist()
        if entry.get("marked") == marked:
            return
        fields = self.read(np.arange(start + old, stop))
        fields[bad] = np.nan
        chunks: list[Chunk] = [(c,) for c in unpack_shard(self._shard_file(index), self.shard)]
        for row in np.flatnonzero(bad.any(axis=1)).tolist():
            chunks[old + row], _ = encode_frame(fields[row], self.profile, self.folder)
        like = np.empty((self.shard, self.frame[0], len(STATISTICS)))
        table = self._chunk(FRAMES, index, like)
        table[old : stop - start] = frame_moments(fields)
        seen = np.any(~np.isnan(fields), axis=0)
        if old:
            seen |= np.any(~np.isnan(self.read(np.arange(start, start + old))), axis=0)
        files: dict[Path, Content] = {
            self._shard_file(index): shard_parts(chunks, self.shard),
            self._chunk_file(FRAMES, index, 2): encode(table),
            self._chunk_file(SEEN, index, 3): encode(seen[None]),
        }
        more = {k: v for k, v in entry.items() if k not in ("key", "frames", "files")}
        kept = {n: v for n, v in entry["files"].items() if self.folder / n not in files}
        self._finish("fields", index, files, {**more, "marked": marked}, kept)

    def frame_table(self, index: int) -> Array:
        """Moments of the new frames of a shard (time, channel, statistic)."""
        start, stop = self.span(index)
        like = np.empty((self.shard, self.frame[0], len(STATISTICS)))
        return self._chunk(FRAMES, index, like)[max(0, self.kept - start) : stop - start]

    def entries(self) -> Iterator[Entry]:
        """Give what the log says of all tasks."""
        for file in self.log_files():
            yield unseal(file.read_text())

    def log_files(self) -> list[Path]:
        """Name the log's entries of all tasks."""
        kinds = ("fields", "changes")
        return [self._log_file(kind, index) for kind in kinds for index in self.indices]

    def _old_chunks(self, index: int, old: int) -> list[bytes]:
        path = self._shard_file(index)
        chunks = unpack_shard(path, self.shard)[:old]
        if len(chunks) < old:
            raise StorageError(f"{path} has lost frames; prepare it again.")
        return chunks

    def _shard_file(self, index: int) -> Path:
        return self._chunk_file(FIELDS, index, 3)

    def _chunk_file(self, array: str, index: int, more: int) -> Path:
        return chunk_file(self.folder / array, index, *[0] * more)

    def _chunk(self, array: str, index: int, like: Array) -> Array:
        """Read a chunk of a small array."""
        path = self._chunk_file(array, index, like.ndim - 1)
        with damaged(path):
            content = path.read_bytes()
        return decode(content, np.empty_like(like), path)

    def _log_file(self, kind: str, index: int) -> Path:
        return self.folder / LOG / f"{index:06d}.{kind}.json"

    def _finish(
        self,
        kind: str,
        index: int,
        files: dict[Path, Content],
        more: dict[str, Any],
        kept: Entry | None = None,
    ) -> Entry:
        """Put the files in their places, then say in the log what they are."""
        written = dict(kept or {})
        for path, content in files.items():
            written |= self._put(path, content)
        start, stop = self.span(index)
        entry = {
            "key": self.key,
            "frames": [start, stop],
            "files": written,
            **more,
        }
        put_file(self._log_file(kind, index), seal(entry))
        return entry

    def _put(self, path: Path, content: Content) -> Entry:
        """Put a file in its place; give its line of the log."""
        # (it may replace what readers read)
        told = put_file(path, content, durable=self.kept > 0)
        return {path.relative_to(self.folder).as_posix(): list(told)}

    def _finished(self, kind: str, index: int) -> Entry | None:
        """Give the entry of the log, if this job has made it and the files are as it says."""
        try:
            entry: Entry = unseal(self._log_file(kind, index).read_text())
            if entry["key"] != self.key or entry["frames"] != list(self.span(index)):
                return None
            for name, (size, known) in entry["files"].items():
                path = self.folder / name
                if os.stat(path).st_size != size or checksum(path.read_bytes()) != known:
                    return None
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return entry


def _contiguous(rows: Int) -> Int | slice:
    """Give ascending rows as a slice where they are one, which copies nothing."""
    whole = rows[-1] - rows[0] + 1 == len(rows)
    return slice(int(rows[0]), int(rows[-1]) + 1) if whole else rows
