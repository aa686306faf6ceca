r"""How little of a step white noise leaves, by chance, when a frame is turned or rolled.

Its frames have nothing to do with each other and look the same however they are turned. The squares
of the steps to a frame and to the turned one are then sums of :math:`\nu` independent ones, and
their ratio has an F distribution with :math:`\nu` and :math:`\nu` degrees of freedom, where
:math:`\nu` is that of the numbers of a profile (Satterthwaite, 1946, doi:10.2307/3002019), which
are few where a grid is small.
"""

from __future__ import annotations

from functools import cache

import numpy as np

__all__ = ["part_by_chance"]

CHANCE = 1e-3  # of a turn or roll being seen in a record of white noise


@cache
def part_by_chance(rows: int, meridians: int, numbers: int, trials: int) -> float:
    """Give the part of a step of which less is left in one of 1,000 records of white noise.

    Parameters
    ----------
    rows, meridians : int
        Means along latitude circles, and along meridians in each half, of a profile.
    numbers : int
        Of these, how many there are.
    trials : int
        Frames, times the turns that are tried.

    Examples
    --------
    On a small grid next to nothing must be left, on another there is no danger:

    >>> [round(part_by_chance(*profile, 10_000), 2) for profile in ((4, 2, 8), (16, 32, 80))]
    [0.03, 0.53]
    """
    from scipy.special import fdtri  # which not all that open data need wait for

    freedom = _freedom(rows, meridians) * numbers
    return float(np.sqrt(fdtri(freedom, freedom, CHANCE / trials)))


@cache
def _freedom(rows: int, meridians: int) -> float:
    """Degrees of freedom of each number of a profile of white noise, on average.

    Of all of them, with :math:`C` their covariance, they are :math:`(tr C)^2 / tr C^2`.

    Examples
    --------
    >>> [round(_freedom(*shape), 2) for shape in ((4, 2), (16, 32))]
    [0.67, 0.88]
    """
    south = (np.arange(rows) < rows / 2).astype(float)
    halves = [half / half.sum() for half in (south, 1 - south) if half.any()]
    means = [np.kron(row, np.ones(meridians) / meridians) for row in np.eye(rows)]
    means += [np.kron(half, meridian) for half in halves for meridian in np.eye(meridians)]
    covariance = np.array(means) @ np.array(means).T
    return float(np.trace(covariance) ** 2 / (covariance**2).sum() / len(means))
