"""What will be prepared, found out from coordinates alone: the plan of a field store."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from weatherdiff.data.calendars import Calendar
from weatherdiff.data.channels import Channels
from weatherdiff.data.sources.source import SOURCES, fingerprint
from weatherdiff.data.windows import Int
from weatherdiff.errors import ConfigError, InputError
from weatherdiff.grid import Grid
from weatherdiff.layout import LAYOUT

__all__ = ["BLOCK_BYTES", "SHOWN", "Plan", "analysis_times", "find_gaps"]

BLOCK_BYTES = 32 * 2**20  # of fields in one shard, which is what a task holds
MOST_FRAMES = 1024  # in one shard: its index has a place for each
SHOWN = 5  # gaps that are named


@dataclass(frozen=True)
class Plan:
    """Dimensions, units, times and layout of a store to come.

    Two plans are equal if they would write the same store from the same source; a store that was
    begun with one is not continued with another.

    Attributes
    ----------
    channels, units : tuple of str
        Label and unit of each channel.
    source_units : dict
        Unit in the source, of variables that are converted.
    times : int
    first, last : str
        ISO times.
    calendar : str
    step : int
        Seconds from frame to frame: the median.
    duplicates : int
        Times that occur twice. They are refused, so this is 0 in a plan that is carried out.
    absent : int
        Frames that lack in gaps.
    gaps : tuple of (str, int)
        Where gaps begin and their length in seconds; the first few.
    irregular : int
        Intervals that are no multiple of the step.
    latitude, longitude : tuple of float
        First and last value in the source, in its own order and convention, and the count.
    edges : tuple of float
        First and last latitude and longitude in canonical order.
    periodic : bool
        Whether longitudes go round the globe.
    static : tuple of str
    shard : int
        Frames in one file.
    frame_bytes : int
        Of one frame of all channels, uncompressed.
    settings : dict
        The arguments of :func:`weatherdiff.prepare` that the store depends on.
    source : str
        Fingerprint, see :func:`weatherdiff.data.sources.source.fingerprint`.
    """

    channels: tuple[str, ...]
    units: tuple[str, ...]
    source_units: dict[str, str]
    times: int
    first: str
    last: str
    calendar: str
    step: int
    duplicates: int
    absent: int
    gaps: tuple[tuple[str, int], ...]
    irregular: int
    latitude: tuple[float, float, int]
    longitude: tuple[float, float, int]
    edges: tuple[float, float, float, float]
    periodic: bool
    static: tuple[str, ...]
    shard: int
    frame_bytes: int
    settings: dict[str, Any]
    source: str

    @classmethod
    def of(
        cls, ds: xr.Dataset, settings: dict[str, Any], *, block_bytes: int = BLOCK_BYTES
    ) -> Plan:
        """Scan a canonical Dataset. No field is read.

        Raises
        ------
        InputError
            It is not canonical, has one time only, or a calendar that is not known.
        """
        channels, grid = Channels.from_dataset(ds), Grid.from_dataset(ds)
        times = analysis_times(ds)
        steps = np.diff(times)
        step = int(np.median(steps))
        calendar = Calendar.of(ds["time"])
        absent, gaps = find_gaps(times, step, calendar)
        layout = json.loads(ds.attrs[LAYOUT]) if LAYOUT in ds.attrs else {}
        own_units = dict(layout.get("units", {}))
        canonical = {n: str(ds[n].attrs.get("units", "")) for n in map(str, ds.data_vars)}
        axes = {}
        for name, values in (("latitude", grid.latitude), ("longitude", grid.longitude)):
            own = layout.get(name, values.tolist())
            axes[name] = (float(own[0]), float(own[-1]), len(own))
        frame_bytes = 4 * len(channels) * grid.shape[0] * grid.shape[1]
        return cls(
            channels=channels.labels,
            units=channels.units,
            source_units={n: u for n, u in own_units.items() if u != canonical.get(n, u)},
            times=len(times),
            first=calendar.text(times[0]),
            last=calendar.text(times[-1]),
            calendar=calendar.name,
            step=step,
            duplicates=int((steps == 0).sum()),
            absent=absent,
            gaps=gaps[:SHOWN],
            irregular=int((steps % step != 0).sum()) if step else 0,
            latitude=axes["latitude"],
            longitude=axes["longitude"],
            edges=tuple(float(v[i]) for v in (grid.latitude, grid.longitude) for i in (0, -1)),  # type: ignore[arg-type]
            periodic=grid.is_periodic,
            static=tuple(str(n) for n in ds.data_vars if ds[n].dims == ("latitude", "longitude")),
            shard=_shard(block_bytes // frame_bytes, ds.encoding.get(SOURCES, {}).get("chunk", 1)),
            frame_bytes=frame_bytes,
            settings=settings,
            source=fingerprint(ds),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @property
    def digest(self) -> str:
        """A name for the plan: equal plans have equal ones."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def shards(self) -> int:
        """Number of files."""
        return -(-self.times // self.shard)

    @property
    def memory_bytes(self) -> int:
        """What one task holds at most, beside the stored chunks of one variable of the source.

        The shard's fields, once more those of one variable while they are read, and the compressed
        shard.
        """
        return 3 * self.shard * self.frame_bytes

    def differences(self, other: dict[str, Any]) -> str:
        """Say in what another plan, as :meth:`to_dict` gives it, differs."""
        own = self.to_dict()
        names = [k for k in own if own[k] != other.get(k)]
        shown = [
            f"{k} is {own[k]} and was {other.get(k)}"
            for k in names
            if len(str(own[k])) + len(str(other.get(k))) < 200
        ]
        return "; ".join(shown) or ", ".join(names)

    def describe(self) -> list[str]:
        """Lines for people: one for each thing that was found."""

        def axis(span: tuple[float, float, int], edges: tuple[float, ...]) -> str:
            turned = f", put in order {edges[0]:g} to {edges[1]:g}" if span[:2] != edges else ""
            return f"{span[2]} from {span[0]:g} to {span[1]:g}{turned}"

        def hours(length: int) -> str:
            return f"{length / 3600:g} h"

        gaps = ", ".join(f"{hours(length)} after {start}" for start, length in self.gaps)
        more = ", ..." if len(self.gaps) == SHOWN else ""
        changed = ", ".join(f"{n} from {u}" for n, u in self.source_units.items())
        count = self.shards
        return [
            f"times        {self.times}, {self.first} to {self.last}, every {hours(self.step)}, "
            f"{self.calendar} calendar",
            f"gaps         {f'{self.absent} frames absent: {gaps}{more}' if gaps else 'none'}"
            + (f"; {self.irregular} intervals are no multiple of the step" * bool(self.irregular)),
            f"duplicates   {self.duplicates or 'none'}",
            f"latitude     {axis(self.latitude, self.edges[:2])}",
            f"longitude    {axis(self.longitude, self.edges[2:])}, "
            + ("round the globe" if self.periodic else "regional"),
            f"units        {(changed and f'{changed} are converted') or 'as they are'}",
            f"shards       {count} of {self.shard} frames, "
            f"{self.shard * self.frame_bytes / 1e6:.3g} MB each; a task holds at most "
            f"{self.memory_bytes / 1e6:.3g} MB and the stored chunks of one variable",
            f"source       {self.source[:16]}",
        ]


def _shard(most: int, chunk: int) -> int:
    """Frames in a shard: near ``most``, and whole chunks of the source where these are near it.

    Examples
    --------
    A source of 100 frames a chunk is not read twice:

    >>> _shard(85, 100), _shard(85, 24), _shard(85, 1)
    (100, 72, 85)

    One of a year a chunk is read a few times, in bounded memory:

    >>> _shard(85, 1460)
    85
    """
    most = int(np.clip(most, 1, MOST_FRAMES))
    if chunk <= most:
        return most // chunk * chunk
    return chunk if chunk <= min(2 * most, MOST_FRAMES) else most


def find_gaps(times: Int, step: int, calendar: Calendar) -> tuple[int, tuple[tuple[str, int], ...]]:
    """Find intervals that are longer than the step.

    Parameters
    ----------
    times : (time,)
        Ascending, in seconds.
    step : int
        Seconds from frame to frame.
    calendar : Calendar
        Of the times.

    Returns
    -------
    absent : int
        Frames that lack in them.
    gaps : tuple of (str, int)
        Where each begins, and its length in seconds.

    Examples
    --------
    >>> find_gaps(np.array([0, 3600, 14400]), 3600, Calendar())
    (2, (('1970-01-01T01:00:00', 10800),))
    """
    steps = np.diff(times)
    long = np.flatnonzero(steps > step)
    absent = int((steps[long] // step - 1).sum()) if step else 0
    return absent, tuple((calendar.text(times[i]), int(steps[i])) for i in long)


def analysis_times(ds: xr.Dataset, *, fewest: int = 2) -> Int:
    """Give the times of a canonical Dataset in seconds since 1970-01-01 UTC of their calendar.

    Parameters
    ----------
    ds : Dataset
    fewest : int
        Times that there must be.

    Raises
    ------
    InputError
        They are no dates of a calendar that is known, or there are too few.
    """
    if "time" not in ds.coords:
        raise InputError("No variable of the data set depends on time.")
    times = Calendar.of(ds["time"]).seconds(ds["time"].values)
    if len(times) < fewest:
        raise InputError(f"The data have {len(times)} times; a forecast needs more.")
    return times


def require_step(plan: Plan, step: int) -> None:
    """Refuse a step that the data do not have.

    Raises
    ------
    ConfigError
        It is no multiple of the data's own.
    """
    if step % plan.step:
        advice = "choose one that is"
        if plan.irregular:
            advice = (
                f"{plan.irregular} of their {plan.times - 1} intervals are no multiples of it "
                "either, and frames of a window are equally far apart; months are so after "
                "xarray's ds.convert_calendar('360_day', align_on='date')"
            )
        raise ConfigError(
            f"The time step {step / 3600:g} h is not a multiple of the data's own step "
            f"{plan.step / 3600:g} h; {advice}."
        )
