"""From parts to scores: the estimators of the CRPS, and skill."""

from __future__ import annotations

from collections.abc import Sequence

import xarray as xr

from weatherdiff.evaluation.scores import dispersion_factor

__all__ = ["crps_from_parts", "score_from_parts", "skill"]


def crps_from_parts(
    over: xr.DataArray,
    under: xr.DataArray,
    dispersion: xr.DataArray,
    *,
    members: int,
    estimator: str = "fair",
    ensemble_size: int | None = None,
) -> xr.DataArray:
    """CRPS by a named estimator from its parts.

    Parameters
    ----------
    over, under, dispersion : (...)
        The parts, or averages or sums of them: everything here is linear.
    members : int
        Size of the ensemble.
    estimator : {"fair", "standard", "almost_fair", "adjusted"}
        ``"fair"``: unbiased for the distribution that the members are drawn from. ``"standard"``:
        of the ensemble as it stands. ``"almost_fair"``: 0.95 of the fair and 0.05 of the standard
        one (Lang et al. 2024, arXiv:2412.15832). ``"adjusted"``: expected for ``ensemble_size``
        members.
    ensemble_size : int, optional
        Members to adjust to, with ``"adjusted"`` alone.

    Returns
    -------
    (...)
        CRPS, or averages or sums of it.

    Raises
    ------
    ValueError
        An unknown estimator, or a size missing or unused.
    DimensionError
        One member, for an estimator other than the standard one.

    References
    ----------
    Ferro (2014), doi:10.1002/qj.2270. Ferro, Richardson and Weigel (2008), doi:10.1002/met.45.

    Examples
    --------
    Members 1, 2, 3 and the observation 1.5, adjusted to 7 members:

    >>> parts = [xr.DataArray(value) for value in (2 / 3, 1 / 6, 2 / 3)]
    >>> fair = crps_from_parts(*parts, members=3)
    >>> adjusted = crps_from_parts(*parts, members=3, estimator="adjusted", ensemble_size=7)
    >>> print(round(float(fair), 4), round(float(adjusted), 4))
    0.1667 0.2619
    """
    factor = dispersion_factor(estimator, members, size=ensemble_size)
    return over + under - factor * dispersion


def score_from_parts(
    parts: Sequence[xr.DataArray],
    *,
    members: int,
    reference: bool,
    estimator: str,
    ensemble_size: int | None,
) -> xr.DataArray:
    """CRPS of the forecast, or of a reference, which is taken as it stands if it is one member.

    A reference forecast such as persistence has no other estimator; of the forecast itself one
    member is an error.

    Parameters
    ----------
    parts : over, under and dispersion
    members : int
    reference : bool
        Whether the parts are a reference's.
    estimator, ensemble_size
        As for :func:`crps_from_parts`, which raises the errors.
    """
    if reference and members == 1:
        estimator, ensemble_size = "standard", None
    over, under, dispersion = parts
    return crps_from_parts(
        over, under, dispersion,
        members=members, estimator=estimator, ensemble_size=ensemble_size,
    ).assign_attrs(estimator=estimator)  # fmt: skip


def skill(score: xr.DataArray, reference: xr.DataArray, long_name: str) -> xr.DataArray:
    """1 - score / reference; NaN where the reference is perfect."""
    return (1 - score / reference.where(reference > 0)).assign_attrs(long_name=long_name, units="1")
