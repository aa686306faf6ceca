"""How members are drawn: the settings of one forecast that are not the model's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from weatherdiff.errors import ConfigError
from weatherdiff.flow import Schedule
from weatherdiff.models.arithmetic import bfloat16_is_fast

__all__ = ["METHODS", "Sampling"]

METHODS = ("auto", "exact", "isotropic", "no_gradient")
"""Of guidance towards observations; see :class:`Sampling`."""


@dataclass(frozen=True)
class Sampling:
    """How members are drawn.

    Parameters
    ----------
    sampler, steps, grid : str, int, str, optional
        As in :class:`weatherdiff.flow.Schedule`; the model's own by default.
    member_block : int
        Members in one call of the network. Convolutions of different batch sizes differ in the
        last bits, so a forecast is bit-identical for a fixed block; the last one is filled up.
    precision : {"auto", "bf16", "fp32"}
        Of the network's arithmetic; ``"auto"`` takes bf16 where the device computes in it.
    noise : mapping, optional
        Factors on the initial noise of some channels, by label, at the first and the last frame
        of a block (linear between): a wider start gives a wider ensemble. They multiply what the
        model's own calibration found.
    guidance : float
        How far the history is believed: 1 as it was trained, 0 not at all, which gives samples of
        the climate. Other values than 1 need a model that was trained with dropped histories.
    guidance_method : {"auto", "exact", "isotropic", "no_gradient"}
        How observations correct the network's expectation, from the exact covariance, with one
        backward pass for each observation, to no backward pass at all; see
        :mod:`weatherdiff.flow.guidance`. ``"auto"`` is exact for up to 16 observations in a block
        of frames, and isotropic for more.

    Raises
    ------
    ConfigError
        A name that is not known, or a number that cannot be.
    """

    sampler: str | None = None
    steps: int | None = None
    member_block: int = 10
    precision: str = "auto"
    noise: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    grid: str | None = None
    guidance: float = 1.0
    guidance_method: str = "auto"

    def __post_init__(self) -> None:
        self.schedule(Schedule())
        if self.precision not in ("auto", "bf16", "fp32"):
            raise ConfigError(f"Unknown precision {self.precision!r}; known: auto, bf16, fp32.")
        if self.guidance_method not in METHODS:
            raise ConfigError(
                f"Unknown guidance method {self.guidance_method!r}; known: {', '.join(METHODS)}."
            )
        if self.member_block < 1:
            raise ConfigError("The member block must be at least 1.")
        if any(min(ends) <= 0 for ends in self.noise.values()):
            raise ConfigError(f"Factors on the noise must be positive, found {dict(self.noise)}.")

    @property
    def arithmetic(self) -> str:
        """``"bf16"`` or ``"fp32"``."""
        if self.precision == "auto":
            return "bf16" if bfloat16_is_fast() else "fp32"
        return self.precision

    def schedule(self, default: Schedule) -> Schedule:
        """Fill in what was left open.

        Raises
        ------
        ConfigError
            A sampler or grid that is not known, or less than one step.
        """
        wanted = {"sampler": self.sampler, "steps": self.steps, "grid": self.grid}
        try:
            return replace(default, **{k: v for k, v in wanted.items() if v is not None})  # type: ignore[arg-type]
        except ValueError as error:
            raise ConfigError(f"Sampling: {error}.") from None

    def noise_factors(self, labels: Sequence[str], frames: int) -> npt.NDArray[np.float64]:
        """Give the factors on the initial noise, (frames, channel).

        Raises
        ------
        ConfigError
            A channel that is not among ``labels``.
        """
        unknown = [label for label in self.noise if label not in labels]
        if unknown:
            raise ConfigError(
                f"There is no channel {unknown[0]!r} to widen the noise of; the model has "
                f"{', '.join(labels)}."
            )
        first, last = np.array([self.noise.get(label, (1.0, 1.0)) for label in labels]).T
        return np.linspace(first, last, frames)
