r"""Squared distances between the members of an ensemble and its observation, in numpy.

Distances are those of the energy score: :math:`\sum_c w_c (x_c - y_c)^2` over cells. They add over
tiles of space, variables and lead times; the root comes last.

All is taken about the first member and in float64: differences of float32 values are then exact,
equal members are at distance zero, and a geopotential of 500,000 m² s⁻² costs no digit. Compiled,
the squares of differences are summed. Without numba they come from Gram matrices, where a pair so
close that its distance would lose digits is recomputed from its difference.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from weatherdiff.errors import DimensionError
from weatherdiff.evaluation.kernels import compiles

__all__ = [
    "Distances",
    "add_distances",
    "check_estimator",
    "energy_from_distances",
    "energy_parts",
    "squared_distances",
]

FloatArray = npt.NDArray[np.float64]

# Values worked on at a time without numba: 4 MiB. Narrower blocks read a power of two apart from
# each member, which land on the same few lines of the cache.
_BLOCK_VALUES = 2**19
# A Gram matrix gives a squared distance to 1e-16 of the squares it is the difference of; below
# this fraction of them the difference itself is summed.
_CLOSE = 1e-4


class Distances(NamedTuple):
    """Sums of weighted squared distances, to be added to.

    Parameters
    ----------
    to_observation : (number,)
        Of each member to the observation.
    between : (number, number)
        Of each member to each other.
    """

    to_observation: FloatArray
    between: FloatArray

    @classmethod
    def zeros(cls, members: int) -> Distances:
        """Nothing added yet."""
        return cls(np.zeros(members), np.zeros((members, members)))


def add_distances(
    forecast: npt.NDArray[Any],
    observation: npt.NDArray[Any],
    weights: npt.NDArray[Any],
    into: Distances,
    *,
    scale: float = 1.0,
) -> float:
    """Add the weighted squared distances over some cells, in blocks that fit the cache.

    Parameters
    ----------
    forecast : (number, cell)
        Members. NaN in a cell that counts makes the member's distances NaN.
    observation : (cell,)
        Cells where it is NaN are left out.
    weights : (cell,)
        At least zero, zero leaves out.
    into : Distances
        Changed in place.
    scale : float
        The distances are divided by it.

    Returns
    -------
    float
        Sum of the weights that counted. Divide the sum of the distances by the sum of these.

    Examples
    --------
    >>> sums = Distances.zeros(2)
    >>> members = np.array([[1.0, 2.0, 9.0], [3.0, 2.0, 9.0]])
    >>> add_distances(members, np.array([1.0, 1.0, np.nan]), np.ones(3), sums)
    2.0
    >>> print(sums.to_observation, sums.between.tolist())
    [1. 5.] [[0.0, 4.0], [4.0, 0.0]]
    """
    members = len(forecast)
    squares, weight = squared_distances(
        forecast[np.newaxis], observation[np.newaxis], np.asarray(weights, np.float64)
    )
    into.between[:] += squares[0, :members, :members] / scale**2
    into.to_observation[:] += squares[0, members, :members] / scale**2
    return float(weight[0])


def energy_parts(
    to_observation: npt.NDArray[Any], between: npt.NDArray[Any]
) -> tuple[FloatArray, FloatArray]:
    r"""Mean distance to the observation, and fair half mean distance between members.

    The fair energy score is their difference; the standard one subtracts :math:`1-1/M` of the
    second, which is zero for one member.

    Parameters
    ----------
    to_observation : (..., number)
        Mean squared distances to the observation.
    between : (..., number, number)
        Mean squared distances between members.

    Returns
    -------
    distance, dispersion : (...)
        In the unit of the values.
    """
    members = to_observation.shape[-1]
    apart = np.sqrt(between).sum(axis=(-2, -1))
    return np.sqrt(to_observation).mean(axis=-1), apart / (2 * max(1, members * (members - 1)))


def energy_from_distances(
    to_observation: npt.NDArray[Any], between: npt.NDArray[Any], estimator: str = "fair"
) -> FloatArray:
    """Energy score from mean squared distances: sums divided by the sum of weights.

    Parameters
    ----------
    to_observation : (..., number)
        Mean squared distances to the observation.
    between : (..., number, number)
        Mean squared distances between members.
    estimator : {"fair", "standard"}
        See :func:`energy_score`.

    Returns
    -------
    (...)
        In the unit of the values.

    Raises
    ------
    DimensionError
        ``"fair"`` with one member.
    ValueError
        Another ``estimator``.

    Examples
    --------
    >>> float(energy_from_distances(np.array([1.0, 9.0]), np.array([[0.0, 16.0], [16.0, 0.0]])))
    0.0
    """
    members = to_observation.shape[-1]
    check_estimator(estimator, members)
    distance, dispersion = energy_parts(to_observation, between)
    return distance - (1.0 if estimator == "fair" else 1 - 1 / members) * dispersion


def check_estimator(estimator: str, members: int) -> None:
    """Refuse an unknown estimator, and the fair one for one member.

    Raises
    ------
    DimensionError
        ``"fair"`` with one member.
    ValueError
        Another ``estimator``.
    """
    if estimator not in ("fair", "standard"):
        raise ValueError(f"estimator is {estimator!r}, expected 'fair' or 'standard'.")
    if estimator == "fair" and members == 1:
        raise DimensionError(
            "the fair estimator is undefined for one member; use estimator='standard'."
        )


def squared_distances(
    x: npt.NDArray[Any], y: npt.NDArray[Any], weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Squared distances (case, M + 1, M + 1) of the members and, last, the observation.

    ``x`` is (case, number, cell), ``y`` (case, cell), ``weights`` (cell,); also gives the sums of
    the weights that counted, (case,).
    """
    total = np.zeros((len(x), x.shape[1] + 1, x.shape[1] + 1))
    counted = ~np.isnan(y) & (weights > 0)
    if compiles():
        from weatherdiff.evaluation.pairs import add_squares

        add_squares(_plain_array(x), _plain_array(y), np.sqrt(weights), counted, total)
    else:
        _add_plain(x, y, np.sqrt(weights), counted, total)
    return total, counted @ weights


def _plain_array(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Single or double precision, contiguous and writeable, so that few types are compiled for."""
    dtype = np.float32 if values.dtype.newbyteorder("=") == np.float32 else np.float64
    return np.require(values, dtype, ["C", "W"])


def _add_plain(
    x: npt.NDArray[Any],
    y: npt.NDArray[Any],
    root: FloatArray,
    counted: npt.NDArray[np.bool_],
    total: FloatArray,
) -> None:
    """Gram matrices of the differences to the first member, which it leaves at the origin."""
    cases, members, cells = x.shape
    for start in range(0, cells, max(1, _BLOCK_VALUES // members)):
        part = slice(start, start + max(1, _BLOCK_VALUES // members))
        apart = np.empty((cases, members, y[:, part].shape[1]))
        apart[:, :-1] = x[:, 1:, part]
        apart[:, -1] = y[:, part]
        with np.errstate(invalid="ignore"):  # inf - inf is NaN, which is the answer
            apart -= x[:, :1, part].astype(np.float64)
            apart *= root[part]
        if not counted[:, part].all():
            np.copyto(apart, 0.0, where=~counted[:, np.newaxis, part])
        total += _between_points(apart)


def _between_points(rows: FloatArray) -> FloatArray:
    """Squared distances between the origin, first, and the rows of each matrix; never negative."""
    gram = np.zeros((len(rows), rows.shape[1] + 1, rows.shape[1] + 1))
    with np.errstate(invalid="ignore"):
        gram[:, 1:, 1:] = rows @ rows.swapaxes(-1, -2)
        norms = np.diagonal(gram, axis1=-2, axis2=-1)
        sums = norms[:, :, np.newaxis] + norms[:, np.newaxis, :]
        squares = sums - 2 * gram
        close = np.triu(squares < _CLOSE * sums, 1)
    case, i, j = np.nonzero(close)
    step = max(1, _BLOCK_VALUES // rows.shape[-1])
    for start in range(0, len(case), step):
        c, a, b = (index[start : start + step] for index in (case, i, j))
        difference = rows[c, a - 1] - rows[c, b - 1]
        squares[c, a, b] = squares[c, b, a] = np.einsum("nk,nk->n", difference, difference)
    return squares
