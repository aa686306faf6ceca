"""The keys of the data section that say where fields come from, and where on the globe they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from weatherdiff.config.section import Section

if TYPE_CHECKING:
    from weatherdiff.data.sources.placement import Region, Regridding

__all__ = ["Box", "NewGrid", "Secret", "Source", "Sources"]

#: Options of a file system may hold credentials: they are left out of whatever is written.
Secret = Annotated[dict[str, Any], Field(exclude=True, repr=False)]


class Source(Section):
    """One of several sources, with what is particular to it."""

    path: str | list[str]
    """As ``data.source``."""
    variables: list[str] | None = None
    """Canonical or own names; all by default."""
    rename: dict[str, str] = {}
    """The source's own name -> the name to use."""
    units: dict[str, str] = {}
    """Units of variables whose attributes lack them."""
    engine: str | None = None
    """Of xarray; chosen from the file by default."""
    storage_options: Secret = {}
    """Of its file system; those of ``data`` by default."""


def _kind(value: Any) -> str:
    if isinstance(value, list):
        return "<list>"
    return "<path>" if isinstance(value, str) else "<mapping>"


_Path = Annotated[str, Tag("<path>")]
_One = Annotated[_Path | Annotated[Source, Tag("<mapping>")], Discriminator(_kind)]
Sources = Annotated[
    _Path | Annotated[list[_One], Tag("<list>")],
    Discriminator(
        _kind,
        custom_error_type="source",
        custom_error_message="Expected a path, or a list of paths and of mappings with a path",
    ),
]


class Box(Section):
    """A region: what lies outside of it is not read."""

    latitude: tuple[float, float] = (-90.0, 90.0)
    """South, north."""
    longitude: tuple[float, float] = (0.0, 360.0)
    """West, east, in any convention; the box goes eastward from the first to the second."""

    @model_validator(mode="after")
    def _can_be(self) -> Box:
        self.region()
        return self

    def region(self) -> Region:
        """Give it as the data layer has it."""
        from weatherdiff.data.sources.placement import Region

        return Region(self.latitude, self.longitude)


class NewGrid(Section):
    """A grid that all sources are brought to; see :mod:`weatherdiff.data.sources.regrid`."""

    method: Literal["conservative", "linear"] = "conservative"
    """Conservative for what is a mean over a cell, and when the new cells are larger."""
    resolution: float | None = None
    """Degrees; of a global grid of square cells, of which those in the region are taken."""
    latitude: list[float] | None = None
    longitude: list[float] | None = None
    """Instead of it, the centres themselves."""

    @model_validator(mode="after")
    def _can_be(self) -> NewGrid:
        self.regridding()
        return self

    def regridding(self) -> Regridding:
        """Give it as the data layer has it."""
        from weatherdiff.data.sources.placement import Regridding

        def axis(values: list[float] | None) -> tuple[float, ...] | None:
            return None if values is None else tuple(values)

        return Regridding(self.method, self.resolution, axis(self.latitude), axis(self.longitude))
