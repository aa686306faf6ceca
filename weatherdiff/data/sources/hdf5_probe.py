"""Look into HDF5 files before anybody reads them; run as a program of its own.

A damaged file can make the HDF5 library loop for ever or crash, and takes the process with it: so
this runs in a child, :mod:`weatherdiff.data.sources.hdf5` reads its answer. Nothing but the
standard library is imported, to be quick: the C functions are those of the very library that
netCDF4 will read the files with, so that no second parser can understand them otherwise.

Standard input: the path of netCDF4's extension module, seconds of computing and bytes of memory
allowed, then one path a line. Standard output: for each file a line ``begin INDEX`` and one of
JSON.
"""

import contextlib
import ctypes
import json
import os
import sys
from collections.abc import Iterator

_ID = ctypes.c_int64
_HARD, _SOFT = 0, 1
_DATASET = 5
_CHUNKED, _VIRTUAL = 2, 3
_LINK = ctypes.CFUNCTYPE(
    ctypes.c_int, _ID, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int), ctypes.c_void_p
)
_RANK = 32  # H5S_MAX_RANK
_NAME = 1024


class _Library:
    """The few functions of HDF5 and netCDF that are needed."""

    def __init__(self, path: str) -> None:
        self.c = ctypes.CDLL(path)
        i, p, s = ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p
        for name, result, arguments in (
            ("H5open", i, ()),
            ("H5Eset_auto2", i, (_ID, p, p)),
            ("H5Fopen", _ID, (s, ctypes.c_uint, _ID)),
            ("H5Fclose", i, (_ID,)),
            ("H5Oopen", _ID, (_ID, s, _ID)),
            ("H5Oclose", i, (_ID,)),
            ("H5Iget_type", i, (_ID,)),
            ("H5Lget_val", i, (_ID, s, p, ctypes.c_size_t, _ID)),
            ("H5Dget_create_plist", _ID, (_ID,)),
            ("H5Dget_space", _ID, (_ID,)),
            ("H5Dget_type", _ID, (_ID,)),
            ("H5Tget_size", ctypes.c_size_t, (_ID,)),
            ("H5Sget_simple_extent_dims", i, (_ID, p, p)),
            ("H5Pget_external_count", i, (_ID,)),
            ("H5Pget_layout", i, (_ID,)),
            ("H5Pget_chunk", i, (_ID, i, p)),
            ("H5Pget_nfilters", i, (_ID,)),
            ("H5Pget_filter2", i, (_ID, ctypes.c_uint, p, p, p, ctypes.c_size_t, p, p)),
            ("H5Pclose", i, (_ID,)),
            ("H5Sclose", i, (_ID,)),
            ("H5Tclose", i, (_ID,)),
            ("nc_open", i, (s, i, p)),
            ("nc_close", i, (i,)),
            ("nc_inq_nvars", i, (i, p)),
            ("nc_inq_varnatts", i, (i, i, p)),
            ("nc_inq_attname", i, (i, i, i, p)),
        ):
            function = getattr(self.c, name)
            function.restype, function.argtypes = result, arguments
        # its signature has changed: since 1.12 the one without a number is the second
        self.visit = getattr(self.c, "H5Lvisit2", None) or self.c.H5Lvisit
        self.visit.restype, self.visit.argtypes = i, (_ID, i, i, _LINK, p)
        self.c.H5open()
        self.c.H5Eset_auto2(0, None, None)

    def describe(self, path: str) -> dict[str, object]:
        """Links that leave their group, and every data set's size and storage."""
        file = self.c.H5Fopen(os.fsencode(path), 0, 0)
        if file < 0:
            return {"opened": False}
        links: list[tuple[str, str]] = []
        hard: list[bytes] = []

        def visited(_: int, name: bytes, info: "ctypes._Pointer[ctypes.c_int]", __: object) -> int:
            kind = info[0]
            if kind == _HARD:
                hard.append(name)
            elif kind == _SOFT:
                target = ctypes.create_string_buffer(_NAME)
                self.c.H5Lget_val(file, name, target, _NAME - 1, 0)
                group = b"/" + name.rpartition(b"/")[0]
                inside = target.value.removeprefix(group.rstrip(b"/") + b"/")
                if b"/" in inside or not inside:
                    links.append((name.decode(errors="replace"), "soft"))
            else:
                links.append((name.decode(errors="replace"), "external"))
            return 0

        try:
            walked = self.visit(file, 0, 2, _LINK(visited), None) >= 0
            found = [] if links else [self._dataset(file, name) for name in hard]
        finally:
            self.c.H5Fclose(file)
        datasets = [entry for entry in found if entry is not None]
        return {"opened": walked, "links": links, "datasets": datasets}

    def _dataset(self, file: int, name: bytes) -> dict[str, object] | None:
        item = self.c.H5Oopen(file, name, 0)
        if item < 0 or self.c.H5Iget_type(item) != _DATASET:
            if item >= 0:
                self.c.H5Oclose(item)
            return None
        plist, space, kind = (
            function(item)
            for function in (
                self.c.H5Dget_create_plist, self.c.H5Dget_space, self.c.H5Dget_type,
            )
        )  # fmt: skip
        sizes = (ctypes.c_uint64 * _RANK)()
        rank = self.c.H5Sget_simple_extent_dims(space, sizes, None)
        chunk = (ctypes.c_uint64 * _RANK)()
        layout = self.c.H5Pget_layout(plist)
        chunked = self.c.H5Pget_chunk(plist, _RANK, chunk) if layout == _CHUNKED else 0
        entry: dict[str, object] = {
            "name": name.decode(errors="replace"),
            "shape": list(sizes[: max(rank, 0)]),
            "chunk": list(chunk[: max(chunked, 0)]),
            "itemsize": self.c.H5Tget_size(kind),
            "filters": list(self._filters(plist)),
            "external": self.c.H5Pget_external_count(plist) != 0,
            "virtual": layout == _VIRTUAL,
        }
        for close, identifier in (
            (self.c.H5Pclose, plist), (self.c.H5Sclose, space), (self.c.H5Tclose, kind),
            (self.c.H5Oclose, item),
        ):  # fmt: skip
            close(identifier)
        return entry

    def _filters(self, plist: int) -> Iterator[int]:
        for index in range(max(self.c.H5Pget_nfilters(plist), 0)):
            flags, count = ctypes.c_uint(), ctypes.c_size_t(0)
            yield self.c.H5Pget_filter2(
                plist, index, ctypes.byref(flags), ctypes.byref(count), None, 0, None, None
            )

    def read_attributes(self, path: str) -> None:
        """Let netCDF do all it does when a file is opened; only that it comes back matters."""
        file, count, attributes = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        if self.c.nc_open(os.fsencode(path), 0, ctypes.byref(file)):
            return
        self.c.nc_inq_nvars(file, ctypes.byref(count))
        name = ctypes.create_string_buffer(_NAME)
        for variable in range(-1, count.value):
            if not self.c.nc_inq_varnatts(file, variable, ctypes.byref(attributes)):
                for index in range(attributes.value):
                    self.c.nc_inq_attname(file, variable, index, name)
        self.c.nc_close(file)


def _limit(seconds: int, memory: int | None = None) -> None:
    """Allow so much computing from now on; the system ends the process beyond."""
    with contextlib.suppress(ImportError, ValueError):
        import resource

        used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (int(used) + 1 + seconds, hard))
        if memory is not None:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def main() -> None:
    """Answer for each file in turn."""
    questions = os.fsdecode(sys.stdin.buffer.read()).split("\0")
    extension, seconds, memory, *paths = questions
    library = _Library(extension)
    _limit(int(seconds), int(memory))
    for index, path in enumerate(paths):
        print("begin", index, flush=True)
        _limit(int(seconds))
        answer = library.describe(path)
        safe = not answer.get("links") and not any(
            entry["external"] or entry["virtual"]
            for entry in answer.get("datasets", [])  # type: ignore[attr-defined]
        )
        if answer["opened"] and safe:
            library.read_attributes(path)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
