"""How long a netCDF-3 file must be.

The netCDF libraries read what is missing from a truncated classic file as zeros, without an error;
its header tells how many bytes there should be.

References
----------
The netCDF classic format specification,
https://docs.unidata.ucar.edu/netcdf-c/current/file_format_specifications.html
"""

import math
import struct
from pathlib import Path
from typing import BinaryIO

from weatherdiff.errors import InputError

__all__ = ["required_bytes"]

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}


def required_bytes(path: Path) -> int:
    """Bytes that the header of a netCDF-3 file (CDF-1, CDF-2 or CDF-5) promises.

    Raises
    ------
    InputError
        The header itself is cut off or damaged, or leaves the number of records open.
    """
    with path.open("rb") as file:
        try:
            return _Header(file).required_bytes()
        except (struct.error, KeyError, IndexError, OverflowError) as error:
            raise InputError(
                f"{path}: the netCDF-3 header is cut off or damaged; fetch the file again."
            ) from error


class _Header:
    """Reader of the header, from the first byte of the file on."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        version = file.read(4)[3]
        self.count_format = ">Q" if version == 5 else ">I"
        self.streaming = 2 ** (8 * struct.calcsize(self.count_format)) - 1
        self.offset_format = ">I" if version == 1 else ">Q"

    def required_bytes(self) -> int:
        records = self._number(self.count_format)
        if records == self.streaming:
            # to count them from the file's length is allowed, but netCDF's C library takes the
            # number as it is, and allocates gigabytes of times
            raise InputError(
                f"{self.file.name} does not say how many records it has, as if it were still being "
                "written; let its writer close it, or copy it with `nccopy`."
            )
        lengths = [self._dimension() for _ in range(self._list_length())]
        self._skip_attributes()
        variables = [self._variable() for _ in range(self._list_length())]
        header = self.file.tell()

        ends, recorded = [header], []
        for dimensions, width, begin in variables:
            shape = [lengths[i] for i in dimensions]
            if shape and shape[0] == 0:  # the unlimited dimension
                recorded.append((begin, width * math.prod(shape[1:])))
            else:
                ends.append(begin + width * math.prod(shape))
        if records:
            stride = sum(_padded(size) for _, size in recorded)
            if len(recorded) == 1:
                stride = recorded[0][1]
            ends += [begin + (records - 1) * stride + size for begin, size in recorded]
        return max(ends)

    def _number(self, form: str) -> int:
        (value,) = struct.unpack(form, self.file.read(struct.calcsize(form)))
        return int(value)

    def _list_length(self) -> int:
        self._number(">I")  # tag of the list
        return self._number(self.count_format)

    def _skip(self, count: int) -> None:
        self.file.seek(_padded(count), 1)

    def _skip_name(self) -> None:
        self._skip(self._number(self.count_format))

    def _dimension(self) -> int:
        self._skip_name()
        return self._number(self.count_format)

    def _skip_attributes(self) -> None:
        for _ in range(self._list_length()):
            self._skip_name()
            width = _TYPE_BYTES[self._number(">I")]
            self._skip(width * self._number(self.count_format))

    def _variable(self) -> tuple[list[int], int, int]:
        """Dimensions, bytes of a value, and position of the first."""
        self._skip_name()
        rank = self._number(self.count_format)
        dimensions = [self._number(self.count_format) for _ in range(rank)]
        self._skip_attributes()
        width = _TYPE_BYTES[self._number(">I")]
        self._number(self.count_format)  # vsize, which overflows for large variables
        return dimensions, width, self._number(self.offset_format)


def _padded(count: int) -> int:
    return -(-count // 4) * 4
