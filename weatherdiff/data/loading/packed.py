r"""Windows of a packed store as they are stored, unpacked and normalised on the device at once.

A frame of 16 bits (:mod:`weatherdiff.data.storing.packing`) is half as large as float32: in the
memory of a pool, in a batch, and on the way to the device. There one expression makes normalised
anomalies of the codes :math:`k`,

.. math:: a = (k \cdot \text{scale} + (\text{offset} - m) - (c(t) - m)) / s

in float32, with :math:`m` the mean of the channel's climatology :math:`c`, so that nothing is lost
to a large mean; a bounded variable goes through its transform between unpacking and the
climatology. What comes out differs from what :class:`~weatherdiff.data.loader.WindowDataset` makes
on the processor, in float64, by rounding.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from weatherdiff.data.loading.reader import BlockReader, Bytes
from weatherdiff.data.loading.stream import WindowStream
from weatherdiff.data.storing.packing import HEADER, packed_size
from weatherdiff.data.storing.stored_array import UnknownLayoutError
from weatherdiff.data.storing.transforms import RESOLUTION, BoundedTransform

if TYPE_CHECKING:
    from weatherdiff.data.loader import Batch, WindowDataset
    from weatherdiff.data.loading.order import Order

__all__ = ["PackedBatch", "PackedReader", "PackedWindows"]

Int = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint16]

TABLE = HEADER // 2  # codes that the table of each channel takes the place of


class PackedReader(BlockReader):
    """Reader of the frames of a packed array as they are stored, checksums verified.

    A frame is a row of uint16: the table of its channels, and their codes.

    Raises
    ------
    UnknownLayoutError
        The array is not packed.
    """

    dtype = np.dtype(np.uint16)

    def _start(self) -> None:
        super()._start()
        if self.array.compressor != "packed":
            raise UnknownLayoutError(f"{self.array.path} is not packed")

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """Of a frame as it is given: (uint16,)."""
        return (packed_size(self.shape[1], int(np.prod(self.shape[2:]))) // 2,)

    def _decompress(self, chunk: Bytes, row: Bytes) -> None:
        if len(chunk) != len(row):
            raise ValueError(f"it has {len(chunk)} bytes instead of {len(row)}")
        row[...] = chunk


class PackedBatch(NamedTuple):
    """Windows that are still packed.

    Attributes
    ----------
    history : (batch, history, uint16)
        Frames as :class:`PackedReader` gives them; int16 stands for uint16.
    target : (batch, frames, uint16)
    table : (batch, history + frames, channel, 3)
        Scale, offset from the channel's mean, and the code of what is missing or -1; float32.
    basis : (batch, history + frames, basis)
        Functions of time of the climatology.
    forcings, static, init_times
        As in :class:`~weatherdiff.data.loader.Batch`.
    windows : PackedWindows
        That know how to unpack them.
    """

    history: Tensor
    target: Tensor
    table: Tensor
    basis: Tensor
    forcings: Tensor
    static: Tensor
    init_times: Tensor
    windows: PackedWindows

    def unpack(self) -> Batch:
        """Give the normalised batch on the device where this one is."""
        return self.windows.unpack(self)


class PackedWindows:
    """The windows of a data set whose store is packed, for a device that unpacks them.

    Parameters
    ----------
    data : WindowDataset
        Of a :class:`~weatherdiff.data.store.FieldStore` of the profile ``packed``.

    Raises
    ------
    UnknownLayoutError
        The fields are not packed, or the system cannot read them as they are.
    """

    def __init__(self, data: WindowDataset) -> None:
        from weatherdiff.data.store import ADVICE, FieldStore

        if not isinstance(data.store, FieldStore) or data.store.profile.name != "packed":
            raise UnknownLayoutError("the fields are not those of a packed store")
        self.data = data
        self.reader = PackedReader(data.store.path / "fields", advice=ADVICE)
        normalizer = data.store.normalizer
        # of bounded variables there is none: their transform needs the values themselves
        self.centre = np.array(
            [
                np.nan_to_num(np.nanmean(mean)) if transform.is_identity else 0.0
                for transform, mean in zip(
                    normalizer.transforms, normalizer.climatology[0].astype(np.float64), strict=True
                )
            ]
        )
        self.on = lru_cache(maxsize=2)(self._constants)

    def stream(
        self, order: Order, *, threads: int = 2, pinned: bool = False
    ) -> WindowStream[PackedBatch]:
        """Give batches as :meth:`WindowDataset.stream` does, which are not unpacked yet."""
        spec = self.data.spec
        return WindowStream(
            self.reader,
            self.reader.frame_shape,
            self.data.windows.indices,
            order,
            self._finish,
            parts=(spec.history, spec.frames),
            threads=threads,
            ahead=self.data.ahead(order, threads),
            dtype=np.uint16,
            pinned=pinned,
        )

    def unpack(self, batch: PackedBatch) -> Batch:
        """Unpack and normalise a batch on the device where it is.

        Parameters
        ----------
        batch : PackedBatch

        Returns
        -------
        Batch
            In float32, as :class:`~weatherdiff.data.loader.Batch` says.
        """
        from weatherdiff.data.loader import Batch

        constants, past = self.on(batch.history.device), batch.history.shape[1]
        history = self._anomalies(batch.history, batch.table[:, :past], batch.basis[:, :past])
        target = self._anomalies(batch.target, batch.table[:, past:], batch.basis[:, past:])
        target = (target - history[:, -1:]) / constants.tendency_std
        weights = constants.area.expand(target.shape)
        if not self.data.complete:
            weights = torch.where(target.isnan(), 0, weights)
            history, target = history.nan_to_num(0.0), target.nan_to_num(0.0)
        return Batch(history, batch.forcings, batch.static, target, weights, batch.init_times)

    def _anomalies(self, frames: Tensor, table: Tensor, basis: Tensor) -> Tensor:
        """(batch, frames, uint16) -> (batch, frames, channel, lat, lon)."""
        constants = self.on(frames.device)
        channels, cells = self.reader.shape[1], constants.climatology.shape[-1]
        codes = frames[..., TABLE * channels :].unflatten(-1, (channels, cells))
        codes = codes.to(torch.int32) & 0xFFFF
        values = codes * table[..., 0:1] + table[..., 1:2]
        if not self.data.complete:
            values.masked_fill_(codes == table[..., 2:3], torch.nan)
        for c, transform in enumerate(self.data.store.normalizer.transforms):
            if not transform.is_identity:
                values[:, :, c] = _forward(transform, values[:, :, c])
        # wave by wave: a product of matrices may be rounded to fewer bits on the device
        for k, wave in enumerate(constants.climatology):
            values.addcmul_(basis[..., k, None, None], wave, value=-1)
        values /= constants.std
        return values.unflatten(-1, self.reader.shape[2:])

    def _finish(self, rows: Int, parts: tuple[npt.NDArray[Any], ...]) -> PackedBatch:
        data = self.data
        unique, where = data.times_of(rows)
        basis = data.store.normalizer.harmonics.evaluate(unique).astype(np.float32)
        history, target = (torch.from_numpy(part.view(np.int16)) for part in parts)
        return PackedBatch(
            history=history,
            target=target,
            table=torch.from_numpy(np.concatenate([self._table(part) for part in parts], axis=1)),
            basis=torch.from_numpy(basis[where]),
            forcings=torch.from_numpy(data.forcings_at(unique)[where]),
            static=data.static.expand(len(rows), *data.static.shape),
            init_times=torch.from_numpy(data.windows.init_times[rows]),
            windows=self,
        )

    def _table(self, frames: Codes) -> npt.NDArray[np.float32]:
        """Scale, offset and missing of each channel; bounds are looked after here.

        Raises
        ------
        InputError
            A value is outside the bounds of its variable.
        """
        channels = self.reader.shape[1]
        head = np.ascontiguousarray(frames[..., : TABLE * channels]).view("<f8")
        table: npt.NDArray[np.float64] = head.reshape(*frames.shape[:2], channels, 3).copy()
        codes = frames[..., TABLE * channels :].reshape(*frames.shape[:2], channels, -1)
        for c, transform in enumerate(self.data.store.normalizer.transforms):
            if transform.is_identity:
                continue
            scale, offset, missing = np.moveaxis(table[:, :, c], -1, 0)
            own = codes[:, :, c]
            highest = own.max(axis=-1, where=own != missing[..., None], initial=0)
            transform.forward(np.stack([offset, offset + scale * highest]))
        table[..., 1] -= self.centre
        return table.astype(np.float32)

    def _constants(self, device: torch.device) -> _Constants:
        normalizer = self.data.store.normalizer
        climatology = normalizer.climatology.astype(np.float64)
        climatology[0] -= self.centre[:, None, None]

        def there(array: npt.NDArray[np.floating]) -> Tensor:
            return torch.from_numpy(np.asarray(array, np.float32)).to(device)

        return _Constants(
            there(climatology.reshape(*climatology.shape[:2], -1)),
            there(normalizer.std[:, None]),
            there(normalizer.tendency_std[..., None, None]),
            there(self.data.area),
        )


class _Constants(NamedTuple):
    """What unpacking needs, on a device."""

    climatology: Tensor
    std: Tensor
    tendency_std: Tensor
    area: Tensor


def _forward(transform: BoundedTransform, x: Tensor) -> Tensor:
    """As :meth:`BoundedTransform.forward`, of values that are within their bounds."""
    lower, upper, scale = transform.lower, transform.upper, transform.scale
    if lower is not None and upper is not None:
        unit = ((x - lower) / (upper - lower)).clamp(RESOLUTION, 1 - RESOLUTION)
        return scale * (unit / (1 - unit)).log()
    sign = 1.0 if lower is not None else -1.0
    bound = cast("float", lower if lower is not None else upper)
    u = (sign * (x - bound) / scale).clamp(min=RESOLUTION)
    return sign * scale * (u + (-torch.expm1(-u)).log())
