r"""Squared distances between the members of an ensemble and its observation.

Distances are those of the energy score: :math:`\sum_c w_c (x_c - y_c)^2` over cells. They add over
tiles of space, variables and lead times; the root comes last.

All is taken about the first member and in float64: differences of float32 values are then exact,
and a geopotential of 500,000 m² s⁻² costs no digit. The distances come from Gram matrices; a pair
so close that its distance would lose digits is recomputed from its difference, so that equal
members are at distance zero.
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

# Values worked on at a time in numpy: 4 MiB. Narrower blocks read a power of two apart from each
# member, which land on the same few lines of the cache.
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
    counted = ~np.isnan(y) & (weights > 0)
    if not counted.all():
        kept = counted.any(axis=0)  # few for a region, say
        x, y, weights, counted = x[..., kept], y[:, kept], weights[kept], counted[:, kept]
    if compiles():
        from weatherdiff.evaluation.kernels.gram import gram
    else:
        gram = _plain_gram
    cases, members, _ = x.shape
    root = np.sqrt(weights)
    products = np.zeros((cases, members + 1, members + 1))  # the first member is the origin
    products[:, 1:, 1:] = gram(x, y, root, counted)
    with np.errstate(invalid="ignore"):  # inf - inf is NaN, which is the answer
        norms = np.diagonal(products, axis1=-2, axis2=-1)
        sums = norms[:, :, np.newaxis] + norms[:, np.newaxis, :]
        squares = sums - 2 * products
        close = (squares < _CLOSE * sums) & ~np.tri(members + 1, dtype=np.bool_)
    if close.any():
        _recompute(squares, np.nonzero(close), (x, y, root, counted))
    return squares, np.where(counted, weights, 0.0).sum(axis=-1)


def _recompute(
    squares: FloatArray,
    pairs: tuple[npt.NDArray[np.intp], ...],
    fields: tuple[npt.NDArray[Any], ...],
) -> None:
    """Put squared distances from differences where pairs (case, i, j), i < j, say so."""
    x, y, root, counted = fields
    members = x.shape[1]
    step = max(1, _BLOCK_VALUES // max(1, x.shape[-1]))
    for start in range(0, len(pairs[0]), step):
        case, i, j = (index[start : start + step] for index in pairs)
        of_member = (j < members)[:, np.newaxis]
        apart = x[case, i].astype(np.float64)
        apart -= np.where(of_member, x[case, np.minimum(j, members - 1)], y[case])
        apart *= root
        np.copyto(apart, 0.0, where=~counted[case])
        squares[case, i, j] = squares[case, j, i] = np.einsum("pc,pc->p", apart, apart)


def _plain_gram(
    x: npt.NDArray[Any],
    y: npt.NDArray[Any],
    root: FloatArray,
    counted: npt.NDArray[np.bool_],
) -> FloatArray:
    """Do the same as :func:`weatherdiff.evaluation.kernels.gram.gram`, by BLAS."""
    cases, members, cells = x.shape
    products = np.zeros((cases, members, members))
    step = max(1, _BLOCK_VALUES // (cases * members))
    for start in range(0, cells, step):
        part = slice(start, start + step)
        rows = np.empty((cases, members, y[:, part].shape[1]))
        rows[:, :-1] = x[:, 1:, part]
        rows[:, -1] = y[:, part]
        with np.errstate(invalid="ignore"):  # inf - inf is NaN, which is the answer
            rows -= x[:, :1, part].astype(np.float64)
            rows *= root[part]
            np.copyto(rows, 0.0, where=~counted[:, np.newaxis, part])
            products += rows @ rows.swapaxes(-1, -2)
    return products
