"""The pictures of one variable that the scores have the ingredients of, in the page's order."""

from __future__ import annotations

from functools import partial

import xarray as xr

from weatherdiff.plotting import (
    plot_crps_by_scale,
    plot_crps_parts,
    plot_economic_value,
    plot_fractions_skill,
    plot_joint_scores,
    plot_power,
    plot_rank_histogram,
    plot_reliability,
    plot_roc,
    plot_score_maps,
    plot_scores,
    plot_scores_by,
)
from weatherdiff.plotting.appearance import title_of
from weatherdiff.plotting.event_names import event_title
from weatherdiff.plotting.events import event_labels
from weatherdiff.plotting.neighbourhoods import fractions_events
from weatherdiff.plotting.power import STORED_POWERS
from weatherdiff.plotting.selection import strata
from weatherdiff.plotting.structure import JOINT_SCORES
from weatherdiff.report.exhibits import Exhibit

__all__ = ["has_spectra", "score_exhibits", "stored_spectra"]


def score_exhibits(scores: xr.Dataset, label: str) -> list[Exhibit]:
    """Pictures of one variable's scores.

    Parameters
    ----------
    scores : (variable, [region, season, ...,] lead_time[, ...])
        Scores.
    label : str
        The variable's.
    """
    name = title_of(label)
    exhibits = [
        Exhibit(
            "scores against lead time",
            partial(plot_scores, scores, variable=label),
            f"CRPS, skill, error with spread, and their ratio against lead time, for {name}; "
            "the numbers are in the table above.",
        )
    ]
    exhibits += [
        Exhibit(
            f"scores by {title_of(dim)}",
            partial(plot_scores_by, scores, variable=label, by=dim),
            f"CRPS, skill, spread-skill ratio and bias of {name} against lead time, a line for "
            f"each {title_of(dim)}; some of the numbers are in the table above.",
            rank=4,
        )
        for dim in strata(scores)
    ]
    if {"crps", "over", "under"} <= set(scores):
        exhibits.append(_crps_parts(scores, label))
    if "rank_histogram" in scores:
        exhibits.append(_rank_histogram(scores, label))
    for position, event in enumerate(event_labels(scores, label)):
        exhibits += _event(scores, label, event, rank=5 + 4 * position)
    if fractions_events(scores, label):
        exhibits.append(
            Exhibit(
                "fractions skill score",
                partial(plot_fractions_skill, scores, variable=label),
                f"Fractions skill score of each event of {name} against the width of the "
                "neighbourhood, a line for each of up to four lead times, with its target.",
                "Neighbourhoods are usefully forecast from the width on where the line is above "
                "its target, (1 + base rate) / 2, dashed in the same colour.",
                rank=7,
            )
        )
    if "map_weight" in scores:
        exhibits.append(_score_maps(scores, label))
    if "crps_by_scale" in scores:
        exhibits.append(
            Exhibit(
                "CRPS by scale",
                partial(plot_crps_by_scale, scores, variable=label),
                f"CRPS of {name} averaged over ever larger scales, and its skill, a line for each "
                "lead time.",
                rank=8,
            )
        )
    if set(JOINT_SCORES) & set(scores):
        exhibits.append(
            Exhibit(
                "scores of fields as a whole",
                partial(plot_joint_scores, scores, variable=label),
                f"Scores of whole fields of {name} against lead time: {_joint_words(scores)}.",
                "Unlike the CRPS they also tell whether cells are right together.",
                rank=10,
            )
        )
    return exhibits


def has_spectra(scores: xr.Dataset) -> bool:
    """Whether the scores hold the spectra of all forecasts, so that none need be read for them."""
    return set(STORED_POWERS.values()) <= set(scores)


def stored_spectra(scores: xr.Dataset, label: str) -> Exhibit:
    """Spectra that the scores hold."""
    return Exhibit(
        "spectra",
        partial(plot_power, scores, variable=label),
        f"Power spectra of {title_of(label)}: observation, members, ensemble mean.",
        "Average of all forecasts. Members with the detail of the observed fields have ratio 1; "
        "the ensemble mean rightly loses what cannot be predicted.",
        rank=3,
    )


def _joint_words(scores: xr.Dataset) -> str:
    return " and ".join(words for name, words in JOINT_SCORES.items() if name in scores)


def _crps_parts(scores: xr.Dataset, label: str) -> Exhibit:
    return Exhibit(
        "parts of the CRPS",
        partial(plot_crps_parts, scores, variable=label),
        f"Parts of the CRPS of {title_of(label)} against lead time: distance of the members above "
        "and below the observation, less their dispersion.",
        "The CRPS is the members' mean distance from the observation, coloured, less their "
        "dispersion, hatched. Members far more often above than below, or the reverse, are biased.",
        rank=6,
    )


def _rank_histogram(scores: xr.Dataset, label: str) -> Exhibit:
    return Exhibit(
        "rank histogram",
        partial(plot_rank_histogram, scores, variable=label),
        f"Rank histograms of {title_of(label)} at up to four lead times, with the uniform line.",
        "Flat if members and observation are exchangeable; a bowl if the members "
        "are too close together, a dome if too far apart, a slope if they are biased. The index is "
        "the sum of the distances from flat. "
        "Neighbouring cells are not independent, so that no sampling band is drawn.",
        rank=2,
    )


def _event(scores: xr.Dataset, label: str, event: str, *, rank: int) -> list[Exhibit]:
    units = None
    if "units" in scores.coords:
        units = str(scores["units"].sel(variable=label).values)
    words = event_title(event, variable=label, units=units)
    of = " The percentile is that of the training period." if words.endswith("percentile") else ""
    return [
        Exhibit(
            f"reliability diagram of {words}",
            partial(plot_reliability, scores, variable=label, event=event),
            f"Reliability diagrams of {words}, at up to four lead times, with how often each "
            "probability was given.",
            "Reliable probabilities lie on the diagonal; in the shaded area they are better than "
            "always giving the base rate (dotted). The line is the isotonic fit to the circles."
            + of,
            rank=rank,
        ),
        Exhibit(
            f"ROC of {words}",
            partial(plot_roc, scores, variable=label, event=event),
            f"Hit rate against false-alarm rate of {words}, a curve for each of up to four lead "
            "times with its area.",
            "Area 0.5: nothing is told apart; 1: everything is.",
            rank=rank + 2,
        ),
        Exhibit(
            f"economic value of {words}",
            partial(plot_economic_value, scores, variable=label, event=event),
            f"Relative economic value of {words} against the ratio of cost to loss.",
            "Of the saving that perfect forecasts would bring, the share that these bring to a "
            "user who acts on the probability that suits her best; 0 is knowing the base rate.",
            rank=rank + 8,
        ),
    ]


def _score_maps(scores: xr.Dataset, label: str) -> Exhibit:
    return Exhibit(
        "score maps",
        partial(plot_score_maps, scores, variable=label),
        f"Maps of the CRPS of {title_of(label)}, its skill against each reference, bias and "
        "spread-skill ratio, a row for each of up to three lead times.",
        "Means over the initial times, cell by cell: with few of them, single cells say little. "
        "Grey: no observation or forecast.",
        rank=3,
    )
