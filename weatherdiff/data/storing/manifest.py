"""The manifest of a field store: how far it is valid. Written last, and all that readers trust."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from weatherdiff.data.storing.plan import SHOWN
from weatherdiff.data.storing.shards import checksum, put_file

__all__ = ["Manifest", "merge_additions"]

FILE = "fields/manifest.json"
RECENT = 16  # additions that are told of one by one


@dataclass(frozen=True)
class Manifest:
    """What a store holds at this moment; one rename replaces it.

    Attributes
    ----------
    frames : int
        Those before this one are whole. There may be more in the files: an addition that is under
        way, or was stopped.
    frames_with_gaps : int
        Of these, how many have missing data.
    additions : tuple of dict
        One for each time that dates were added: their span, and the drift of their statistics; all
        but the last few as one, see :func:`merge_additions`.
    packing : dict
        Of a packed store: the measured error of each channel, over all frames; see
        :func:`weatherdiff.data.storing.rounding.summarize_errors`. Else empty.
    quality : tuple of dict, optional
        What quality control has found in these frames, see
        :class:`weatherdiff.data.quality.Finding`; None if nothing has looked.
    """

    frames: int
    frames_with_gaps: int
    additions: tuple[dict[str, Any], ...] = ()
    packing: dict[str, dict[str, Any]] = field(default_factory=dict)
    quality: tuple[dict[str, Any], ...] | None = None

    @classmethod
    def read(cls, store: Path) -> Manifest:
        """Read the manifest of a store.

        Raises
        ------
        OSError, ValueError, TypeError, KeyError
            It is not there, or damaged.
        """
        document = json.loads((store / FILE).read_bytes())
        known = document.pop("checksum")
        if checksum(_text(document).encode()) != known:
            raise ValueError("the manifest does not have its checksum")
        document["additions"] = tuple(document["additions"])
        if document.get("quality") is not None:
            document["quality"] = tuple(document["quality"])
        return cls(**document)

    def write(self, store: Path) -> None:
        """Publish: from now on readers see this state."""
        document = dataclasses.asdict(self)
        if not self.packing:
            del document["packing"]
        if self.quality is None:
            del document["quality"]
        document["checksum"] = checksum(_text(document).encode())
        put_file(store / FILE, json.dumps(document, indent=1) + "\n", durable=True)


def merge_additions(
    additions: Sequence[dict[str, Any]], *, recent: int = RECENT
) -> tuple[dict[str, Any], ...]:
    """Keep the last additions as they are, and make one of those before.

    The drift of that one is of all its frames, each counting as much. ``merged`` says of how many
    additions it is.

    Parameters
    ----------
    additions : sequence of dict
        In their order; the first may be a merged one.
    recent : int
        How many to keep.

    Examples
    --------
    >>> def one(start, stop, mean):
    ...     drift = {"t": {"mean": mean, "std": 1.0}}
    ...     return {"frames": [start, stop], "first": "", "last": "", "drift": drift}
    >>> merged, last = merge_additions([one(0, 1, 2.0), one(1, 4, -2.0), one(4, 5, 0)], recent=1)
    >>> merged["frames"], merged["merged"], merged["drift"]["t"]
    ([0, 4], 2, {'mean': -1.0, 'std': 2.0})
    """
    more = len(additions) - recent
    if more < 2:
        return tuple(additions)
    old = additions[:more]
    counts = [one["frames"][1] - one["frames"][0] for one in old]
    merged: dict[str, Any] = {
        "frames": [old[0]["frames"][0], old[-1]["frames"][1]],
        "first": old[0]["first"],
        "last": old[-1]["last"],
        "drift": {
            label: _merge_drift([one["drift"].get(label) for one in old], counts)
            for label in old[-1]["drift"]
        },
        "merged": sum(one.get("merged", 1) for one in old),
    }
    gaps = [gap for one in old for gap in one.get("gaps", ())]
    if gaps:
        merged |= {"absent": sum(one.get("absent", 0) for one in old), "gaps": gaps[-SHOWN:]}
    return (merged, *additions[more:])


def _merge_drift(
    drifts: Sequence[dict[str, float] | None], counts: Sequence[int]
) -> dict[str, float] | None:
    """Mean and standard deviation of all frames from those of parts; None is of no data."""
    known = [(d["mean"], d["std"], n) for d, n in zip(drifts, counts, strict=True) if d is not None]
    if not known:
        return None
    means, spreads, weights = np.array(known).T
    mean = np.average(means, weights=weights)
    variance = np.average(spreads**2 + (means - mean) ** 2, weights=weights)
    return {"mean": float(mean), "std": float(np.sqrt(variance))}


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, sort_keys=True)
