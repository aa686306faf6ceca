"""What is made of the members of a forecast: the section ``forecast.products``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from weatherdiff.config.section import Section

__all__ = ["Products"]


class Exceedance(Section):
    """Thresholds of a variable whose probability is wanted."""

    variable: str
    """Canonical name; of one with levels, all of these, or with the level appended, one:
    ``temperature_850``."""
    above: list[float] = []
    """In the variable's unit: the probability of a greater value."""
    below: list[float] = []
    """The probability of a lesser one."""

    @field_validator("above", "below", mode="after")
    @classmethod
    def _ascend(cls, values: list[float]) -> list[float]:
        if values != sorted(set(values)):
            raise ValueError(f"thresholds ascend, and none comes twice; found {values}")
        return values

    @model_validator(mode="after")
    def _has_thresholds(self) -> Exceedance:
        if not self.above and not self.below:
            raise ValueError(f"{self.variable} has no threshold, neither above nor below")
        return self


class Products(Section):
    """What is published of an ensemble beside its members, or instead of them."""

    mean: bool = False
    """Of the members."""
    spread: bool = False
    """Their standard deviation, with M - 1."""
    quantiles: list[Annotated[float, Field(ge=0, le=1)]] = []
    """Interpolated linearly between the members in their order."""
    exceedance: list[Exceedance] = []
    """The share of the members beyond thresholds."""

    @field_validator("quantiles", mode="after")
    @classmethod
    def _ascend(cls, values: list[float]) -> list[float]:
        if values != sorted(set(values)):
            raise ValueError(f"quantiles ascend, and none comes twice; found {values}")
        return values

    @field_validator("exceedance", mode="after")
    @classmethod
    def _are_of_different_variables(cls, values: list[Exceedance]) -> list[Exceedance]:
        names = [value.variable for value in values]
        if len(set(names)) < len(names):
            raise ValueError("a variable has all its thresholds in one entry")
        return values

    @property
    def any(self) -> bool:
        """Whether any is wanted."""
        return bool(self.mean or self.spread or self.quantiles or self.exceedance)
