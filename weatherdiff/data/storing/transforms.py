r"""Transforms that take a bounded variable to the whole real line and back.

Members are generated on the real line, so after the way back none can be out of bounds; nothing is
clamped. Far from a bound the transform of a variable with one bound is the distance to it, so its
units, its tendencies and the shape of its errors stay what they were.

A bound that is often reached (no rain, no sun) is a point mass. It is kept as one: values closer to
the bound than ``RESOLUTION`` (of the scale, or of the span between two bounds) become the bound,
the bound maps to one point :math:`z_b` of the line, and all :math:`z \le z_b` map back to the bound
exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weatherdiff.errors import InputError

__all__ = ["RESOLUTION", "BoundedTransform"]

RESOLUTION = 0.01
MASS = RESOLUTION * 1.001  # what z_b comes back as, rounded to float32 on the way

Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class BoundedTransform:
    r"""Identity, softplus or logistic, by which bounds there are.

    Parameters
    ----------
    lower, upper : float, optional
        The bounds. None: unbounded on that side.
    scale : float
        Distance from a single bound over which the transform bends, in the variable's unit;
        with two bounds it only sets the unit of the line.

    Examples
    --------
    >>> rain = BoundedTransform(lower=0.0, scale=1.0)
    >>> z = rain.forward(np.array([0.0, 0.5, 20.0]))
    >>> z.round(2)
    array([-4.6 , -0.43, 20.  ])
    >>> rain.inverse(z).round(6)
    array([ 0. ,  0.5, 20. ])
    >>> rain.inverse(np.array([-100.0]))
    array([0.])
    """

    lower: float | None = None
    upper: float | None = None
    scale: float = 1.0

    @property
    def is_identity(self) -> bool:
        """Whether there is no bound."""
        return self.lower is None and self.upper is None

    def forward(self, x: Array) -> Array:
        """Physical values to the real line.

        Raises
        ------
        InputError
            A value is out of bounds by more than the resolution.
        """
        if self.is_identity:
            return x
        self._check(x)
        if self.lower is not None and self.upper is not None:
            span = self.upper - self.lower
            unit = np.clip((x - self.lower) / span, RESOLUTION, 1 - RESOLUTION)
            return self.scale * np.log(unit / (1 - unit))
        distance, sign = self._distance(x)
        u = np.maximum(distance / self.scale, RESOLUTION)
        # log(exp(u) - 1), without overflow for large u
        return sign * self.scale * (u + np.log(-np.expm1(-u)))

    def inverse(self, z: Array) -> Array:
        """Real line to physical values, within the bounds."""
        if self.is_identity:
            return z
        if self.lower is not None and self.upper is not None:
            unit = 1 / (1 + np.exp(-np.clip(z / self.scale, -50, 50)))
            out = self.lower + (self.upper - self.lower) * unit
            out = np.where(unit <= MASS, self.lower, out)
            out = np.where(unit >= 1 - MASS, self.upper, out)
        else:
            bound, sign = (self.lower, 1.0) if self.lower is not None else (self.upper, -1.0)
            with np.errstate(invalid="ignore"):  # NaN is where there are no data
                softplus = np.logaddexp(0, sign * z / self.scale)
            out = np.where(softplus <= MASS, bound, bound + sign * self.scale * softplus)
        return np.asarray(np.where(np.isnan(z), np.nan, out), dtype=z.dtype)

    def deviation(self, x: float, error: float) -> float:
        """Give the standard deviation on the line of a value that is known to an error.

        The mean slope of the transform between one error below and one above, as far as that is
        within the bounds, and at least its least slope: so small errors are propagated to first
        order, the point mass at a bound is not sharper than what lies beside it, and what says
        nothing of the variable says nothing of the line.

        Parameters
        ----------
        x : float
            Physical value.
        error : float
            Its standard deviation, positive.

        Examples
        --------
        >>> rain = BoundedTransform(lower=0.0, scale=1.0)
        >>> round(rain.deviation(20.0, 0.5), 3), round(rain.deviation(0.0, 0.5), 3)
        (0.5, 4.167)
        """
        if self.is_identity:
            return error
        low = -np.inf if self.lower is None else self.lower
        high = np.inf if self.upper is None else self.upper
        x = min(max(x, low), high)
        ends = np.array([max(x - error, low), min(x + error, high)])
        slope = abs(np.diff(self.forward(ends))[0]) / np.diff(ends)[0]
        least = 1.0 if np.isinf(high - low) else 4 * self.scale / (high - low)
        return float(error * max(slope, least))

    def _distance(self, x: Array) -> tuple[Array, float]:
        if self.lower is not None:
            return x - self.lower, 1.0
        assert self.upper is not None  # noqa: S101  (for the type checker: the identity returned)
        return self.upper - x, -1.0

    def _check(self, x: Array) -> None:
        low = -np.inf if self.lower is None else self.lower - self._slack
        high = np.inf if self.upper is None else self.upper + self._slack
        with np.errstate(invalid="ignore"):
            outside = (x < low) | (x > high)
        if outside.any():
            raise InputError(
                f"{int(outside.sum())} values are outside the bounds [{self.lower}, {self.upper}] "
                f"(e.g. {x[outside][0]:g}); correct them or set other bounds for the variable."
            )

    @property
    def _slack(self) -> float:
        """How far outside is rounding (packed data undershoot zero), in the variable's unit."""
        if self.lower is not None and self.upper is not None:
            return RESOLUTION * (self.upper - self.lower)
        return RESOLUTION * self.scale
