"""What reference forecasts are, in words."""

from __future__ import annotations

from collections.abc import Mapping

import xarray as xr

from weatherdiff.plotting.selection import reference_names

__all__ = ["described"]

# Of the references that the package makes.
_WORDS = {
    "climatology": "an ensemble of the analyses of the training period's days, or of those of the "
    "same season if it spans years, at the same hour of the day",
    "persistence": "the last analysis, kept for all lead times; a single forecast, without spread",
    "smooth_climatology": "a normal distribution whose mean and variance, fitted to the training "
    "period at each cell, follow smooth yearly and daily cycles",
    "analogs": "what followed the states of the training period that were most like the last "
    "analysis",
    "linear_inverse_model": "an ensemble of a linear model with noise, fitted to the leading "
    "patterns of the anomalies in the training period",
}


def described(
    scores: xr.Dataset, references: Mapping[str, str | xr.Dataset]
) -> tuple[dict[str, str | None], dict[str, xr.Dataset]]:
    """Part what is known of the references into words and comparisons.

    Parameters
    ----------
    scores : xr.Dataset
        Scores, which name their references.
    references : mapping of str to str or Dataset
        Words, or a comparison that may have them as its attribute ``description``.

    Returns
    -------
    dict
        What each reference is: in the words given, else in those for the baselines of this name,
        else None.
    dict
        Comparisons by name.

    Examples
    --------
    >>> scores = xr.Dataset({"crpss_x": 0.1, "crpss_persistence": 0.2})
    >>> words, _ = described(scores.assign_attrs(references=["x", "persistence"]), {"x": "mine"})
    >>> words["x"], words["persistence"][:17]
    ('mine', 'the last analysis')
    """
    words: dict[str, str | None] = {name: _WORDS.get(name) for name in reference_names(scores)}
    comparisons: dict[str, xr.Dataset] = {}
    for name, known in references.items():
        if isinstance(known, str):
            words[name] = known
            continue
        comparisons[name] = known
        words[name] = known.attrs.get("description") or words.get(name) or _WORDS.get(name)
    return words, comparisons
