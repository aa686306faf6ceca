r"""Decisions on event probabilities: contingency tables, ROC, economic value, extremes.

A user acts when at least k of M members are in the event. The event tables over ``count`` (see
:mod:`weatherdiff.evaluation.exceedance`) give, for every k at once, the contingency table of acting
against the event: hits a, false alarms b, misses c and correct rejections d, as weights. With

.. math:: H = \frac{a}{a+c}, \quad F = \frac{b}{b+d}, \quad s = \frac{a+c}{a+b+c+d}

all the rest follows. Tables add; scores do not: sum the tables over what is to be pooled first.
Every function works along ``count`` alone, keeps the other dimensions, and is lazy if the tables
are. A score is NaN where it is undefined: where the event never, or always, occurred, and as told
below.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.evaluation.exceedance import members_of

__all__ = [
    "contingency_scores",
    "contingency_table",
    "relative_economic_value",
    "roc_area",
    "roc_curve",
]


def contingency_table(event_count: xr.DataArray, event_occurred: xr.DataArray) -> xr.Dataset:
    """Contingency tables of acting when at least so many members are in the event.

    Parameters
    ----------
    event_count, event_occurred : (..., count)
        Event tables. NaN propagates.

    Returns
    -------
    xr.Dataset, (..., at_least)
        ``hits``, ``false_alarms``, ``misses`` and ``correct_rejections``, as weights, over
        ``at_least`` = 0 (always act) .. M + 1 (never), with the coordinate ``probability``, the
        lowest forecast that is acted on (above one for never).

    Raises
    ------
    DimensionError
        The tables are no pair over ``count``.

    Examples
    --------
    >>> count = xr.DataArray([4.0, 2.0, 2.0], dims="count")
    >>> occurred = xr.DataArray([1.0, 1.0, 2.0], dims="count")
    >>> table = contingency_table(count, occurred)
    >>> print(table["hits"].values, table["false_alarms"].values)
    [4. 3. 2. 0.] [4. 1. 0. 0.]
    """
    members = members_of(event_count, event_occurred)
    # Rounding in the sums must not make a weight negative.
    absent = (event_count - event_occurred).clip(min=0)
    hits, false_alarms = _at_least(event_occurred), _at_least(absent)
    at_least = np.arange(members + 2)
    return xr.Dataset(
        {
            "hits": hits,
            "false_alarms": false_alarms,
            "misses": (hits.isel(at_least=0) - hits).clip(min=0),
            "correct_rejections": (false_alarms.isel(at_least=0) - false_alarms).clip(min=0),
        }
    ).assign_coords(at_least=at_least, probability=("at_least", at_least / members))


def roc_curve(event_count: xr.DataArray, event_occurred: xr.DataArray) -> xr.Dataset:
    """Relative operating characteristic: hit rate against false alarm rate.

    Parameters
    ----------
    event_count, event_occurred : (..., count)
        Event tables. NaN propagates.

    Returns
    -------
    xr.Dataset, (..., at_least)
        ``hit_rate`` and ``false_alarm_rate`` (of the non-events), from (1, 1) at ``at_least`` = 0
        to (0, 0) at M + 1.

    Raises
    ------
    DimensionError
        The tables are no pair over ``count``.

    References
    ----------
    Mason (1982), Australian Meteorological Magazine 30, 291-303.

    Examples
    --------
    >>> count = xr.DataArray([4.0, 2.0, 2.0], dims="count")
    >>> occurred = xr.DataArray([1.0, 1.0, 2.0], dims="count")
    >>> print(roc_curve(count, occurred)["hit_rate"].values)
    [1.   0.75 0.5  0.  ]
    """
    table = contingency_table(event_count, event_occurred)
    hit_rate, false_alarm_rate = _rates(table)
    return xr.Dataset({"hit_rate": hit_rate, "false_alarm_rate": false_alarm_rate})


def roc_area(event_count: xr.DataArray, event_occurred: xr.DataArray) -> xr.DataArray:
    """Area under the empirical ROC curve, its points joined by straight lines.

    It is the chance that the forecast was higher for an event than for a non-event, ties counting
    half. It does not see calibration, and grows with the number of members.

    Parameters
    ----------
    event_count, event_occurred : (..., count)
        Event tables. NaN propagates.

    Returns
    -------
    (...)
        0.5 without skill, 1 at best.

    Raises
    ------
    DimensionError
        The tables are no pair over ``count``.

    References
    ----------
    Mason and Graham (2002), doi:10.1256/003590002320603584.

    Examples
    --------
    >>> count = xr.DataArray([4.0, 2.0, 2.0], dims="count")
    >>> float(roc_area(count, xr.DataArray([1.0, 1.0, 2.0], dims="count")))
    0.8125
    """
    curve = roc_curve(event_count, event_occurred)
    later, earlier = slice(1, None), slice(None, -1)
    # Without coordinates, along which xarray would align.
    hit, false = (curve[name].drop_vars(("at_least", "probability")) for name in curve)
    widths = false.isel(at_least=earlier) - false.isel(at_least=later)
    heights = (hit.isel(at_least=earlier) + hit.isel(at_least=later)) / 2
    return (widths * heights).sum("at_least", skipna=False)


def relative_economic_value(
    event_count: xr.DataArray,
    event_occurred: xr.DataArray,
    *,
    cost_loss: Sequence[float] = tuple(np.linspace(0.05, 0.95, 19)),
) -> xr.DataArray:
    r"""Relative economic value to users who can protect themselves at a cost.

    .. math:: V = \frac{\min(\alpha, s) - F\alpha(1-s) + Hs(1-\alpha) - s}{\min(\alpha, s)-s\alpha}

    of a user whose cost of protection is a part :math:`\alpha` of the loss it avoids: 1 with
    perfect forecasts, 0 with the base rate alone. ``.max("at_least")`` is the value to users who
    each know their best probability to act on (chosen from the same sample: an upper bound), and
    the one at ``probability`` nearest above :math:`\alpha` that of trusting the forecasts.

    Parameters
    ----------
    event_count, event_occurred : (..., count)
        Event tables. NaN propagates.
    cost_loss : sequence of float
        Cost-loss ratios, between 0 and 1.

    Returns
    -------
    (..., at_least, cost_loss)
        Value, at most 1. NaN at cost-loss ratios of 0 and 1, where no forecast can be of use.

    Raises
    ------
    DimensionError
        The tables are no pair over ``count``.
    InputError
        A ratio is not between 0 and 1.

    References
    ----------
    Richardson (2000), doi:10.1002/qj.49712656313.

    Examples
    --------
    >>> count = xr.DataArray([4.0, 2.0, 2.0], dims="count")
    >>> occurred = xr.DataArray([1.0, 1.0, 2.0], dims="count")
    >>> value = relative_economic_value(count, occurred, cost_loss=[0.25, 0.5])
    >>> print(value.max("at_least").values.round(3))
    [0.  0.5]
    """
    ratios = np.asarray(cost_loss, np.float64)
    if ratios.ndim != 1 or not np.all((ratios >= 0) & (ratios <= 1)):
        raise InputError(f"cost_loss is {cost_loss}, expected ratios between 0 and 1.")
    alpha = xr.DataArray(ratios, {"cost_loss": ratios}, dims="cost_loss")
    table = contingency_table(event_count, event_occurred)
    hit_rate, false_alarm_rate = _rates(table)
    happened = table["hits"] + table["misses"]
    rate = happened / _positive(happened + table["false_alarms"] + table["correct_rejections"])
    without = xr.where(alpha < rate, alpha, rate)
    gain = without - false_alarm_rate * alpha * (1 - rate) + hit_rate * rate * (1 - alpha) - rate
    possible = without - rate * alpha
    return (gain / _positive(possible)).transpose(..., "at_least", "cost_loss")


def contingency_scores(
    event_count: xr.DataArray, event_occurred: xr.DataArray, *, probability: float
) -> xr.Dataset:
    r"""Scores of the yes or no forecast of acting at a probability.

    Among them are the extremal dependence index and its symmetric form, which neither vanish nor
    saturate as events become rarer:

    .. math:: \mathrm{EDI} = \frac{\ln F-\ln H}{\ln F+\ln H}, \quad
              \mathrm{SEDI} = \frac{\ln F-\ln H-\ln(1-F)+\ln(1-H)}{\ln F+\ln H+\ln(1-F)+\ln(1-H)}

    Compare them between forecasts of similar frequency bias, best 1, as they can be hedged.

    Parameters
    ----------
    event_count, event_occurred : (..., count)
        Event tables. NaN propagates.
    probability : float
        The event is forecast where at least this share of the members is in it; above 0.

    Returns
    -------
    xr.Dataset, (...)
        ``base_rate``; ``hit_rate`` H; ``false_alarm_rate`` F (of the non-events);
        ``false_alarm_ratio`` (of the forecast events, NaN if there is none); ``frequency_bias``,
        forecast over observed events; ``threat_score``, hits over hits, misses and false alarms;
        ``peirce_skill_score``, H - F; ``edi``, NaN unless H > 0 and F > 0 and they are not both 1;
        ``sedi``, NaN unless both are strictly between 0 and 1. So a forecast without an error has
        neither.

    Raises
    ------
    DimensionError
        The tables are no pair over ``count``.
    InputError
        ``probability`` is not above 0 and at most 1.

    References
    ----------
    Ferro and Stephenson (2011), doi:10.1175/WAF-D-10-05030.1.

    Examples
    --------
    >>> count = xr.DataArray([4.0, 2.0, 2.0], dims="count")
    >>> occurred = xr.DataArray([1.0, 1.0, 2.0], dims="count")
    >>> scores = contingency_scores(count, occurred, probability=0.5)
    >>> {name: round(float(scores[name]), 3) for name in ("hit_rate", "false_alarm_rate", "sedi")}
    {'hit_rate': 0.75, 'false_alarm_rate': 0.25, 'sedi': 0.656}
    """
    if not 0 < probability <= 1:
        raise InputError(f"probability is {probability}, expected above 0 and at most 1.")
    members = members_of(event_count, event_occurred)
    needed = int(np.ceil(probability * members - 1e-9))  # 0.3 of 10 are 3, whatever the rounding
    tables = contingency_table(event_count, event_occurred)
    table = tables.isel(at_least=needed, drop=True).drop_vars("probability", errors="ignore")
    hit, false = _rates(table)
    hits, false_alarms, misses = (table[name] for name in ("hits", "false_alarms", "misses"))
    happened, forecast = hits + misses, hits + false_alarms
    everything = happened + false_alarms + table["correct_rejections"]
    log_h, log_f = _log(hit), _log(false)
    log_not_h, log_not_f = _log(1 - hit), _log(1 - false)
    edi = (log_f - log_h) / _nonzero(log_f + log_h)
    sedi = (log_f - log_h - log_not_f + log_not_h) / (log_f + log_h + log_not_f + log_not_h)
    return xr.Dataset(
        {
            "base_rate": happened / _positive(everything),
            "hit_rate": hit,
            "false_alarm_rate": false,
            "false_alarm_ratio": false_alarms / _positive(forecast),
            "frequency_bias": forecast / _positive(happened),
            "threat_score": hits / _positive(happened + false_alarms),
            "peirce_skill_score": hit - false,
            "edi": edi,
            "sedi": sedi,
        },
        attrs={"at_least": needed, "members": members},
    )


def _at_least(table: xr.DataArray) -> xr.DataArray:
    """Weight of the points with at least 0, 1, ..., M + 1 members, from that with exactly k."""
    downward = table.drop_vars("count", errors="ignore").isel(count=slice(None, None, -1))
    sums = downward.cumsum("count", skipna=False).isel(count=slice(None, None, -1))
    return sums.pad(count=(0, 1), constant_values=0.0).rename(count="at_least")


def _rates(table: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """Hit rate and false alarm rate."""
    hits, false_alarms = table["hits"], table["false_alarms"]
    happened = hits + table["misses"]
    absent = false_alarms + table["correct_rejections"]
    return hits / _positive(happened), false_alarms / _positive(absent)


def _positive(weight: xr.DataArray) -> xr.DataArray:
    return weight.where(weight > 0)


def _nonzero(values: xr.DataArray) -> xr.DataArray:
    return values.where(values != 0)


def _log(values: xr.DataArray) -> xr.DataArray:
    return xr.apply_ufunc(np.log, _positive(values), dask="allowed")
