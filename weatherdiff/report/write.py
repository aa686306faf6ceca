"""The report's contents, in order, written in one step."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.plotting import plot_scorecard
from weatherdiff.plotting.appearance import title_of
from weatherdiff.plotting.selection import one_stratum, strata
from weatherdiff.plotting.sums import with_pooled_sums
from weatherdiff.report.evidence import has_spectra, score_exhibits, stored_spectra
from weatherdiff.report.exhibits import Exhibit, shares, shown
from weatherdiff.report.illustrations import Illustrations, Points
from weatherdiff.report.joint import joint_tables
from weatherdiff.report.page import (
    bullets,
    document,
    heading,
    navigation,
    paragraph,
    properties,
    section,
    subheading,
)
from weatherdiff.report.references import described
from weatherdiff.report.tables import score_table, strata_table
from weatherdiff.report.verdict import headline, shortcomings, significance, variable_summary
from weatherdiff.staging import staged

__all__ = ["write_report"]

# Pictures on a page, and those of them that compare with references.
_MOST_PICTURES, _MOST_SCORECARDS = 60, 4


def write_report(
    path: str | os.PathLike[str],
    *,
    scores: xr.Dataset,
    forecasts: xr.Dataset | None = None,
    observations: xr.Dataset | None = None,
    provenance: Mapping[str, Any] | None = None,
    title: str = "Ensemble forecasts, verified",
    references: Mapping[str, str | xr.Dataset] | None = None,
    points: Points | None = None,
) -> Path:
    """Write a self-contained HTML page of verdict, score tables, pictures and provenance.

    It shows what the scores have the ingredients of, in up to 60 pictures, and says what was left
    out. It needs no other file and makes no request. Equal inputs give equal bytes. It appears
    under its name when it is whole; a failure leaves an earlier one as it was.

    Parameters
    ----------
    path : path-like
        The file to write; an existing one is replaced, missing folders are made.
    scores : (variable, [region, season, ...,] lead_time[, ...])
        What :func:`weatherdiff.evaluation.evaluate` returns. The verdict is that of the first
        region, season, ... with any; all of them are in tables.
    forecasts : (init_time, lead_time, number[, level], latitude, longitude), optional
        With every scored channel. One forecast is shown and, unless the scores hold spectra, up to
        eight enter them; if lazy, no others are read. Not shown without.
    observations : (time[, level], latitude, longitude), optional
        Analyses on the same grid, needed with ``forecasts``.
    provenance : mapping, optional
        Where data and model come from, licence and credit, seeds, versions, ...: text, numbers,
        lists and mappings, nested at will.
    title : str
        Heading of the page.
    references : mapping of str to str or Dataset, optional
        What is known of each reference forecast by its name in the scores: what it is, in words, or
        the result of :func:`weatherdiff.evaluation.compare` with it, which is drawn as a scorecard
        and may have those words as its attribute ``description``.
    points : mapping of str to (latitude, longitude), optional
        Places of the plumes by name. Default: the middle of the area and the cells of highest and
        lowest forecast.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    InputError
        A scored channel is missing from the data, or there are no forecasts.
    GridMismatchError, UnitsError
        Forecasts and observations differ in grid or units.
    StorageError
        The file cannot be written.
    """
    labels = [str(label) for label in scores["variable"].values]
    # Refused before the work begins.
    illustrations = None
    if forecasts is not None:
        if observations is None:
            raise InputError("forecasts can be shown only beside observations.")
        illustrations = Illustrations.choose(scores, forecasts, observations, points)
    words, comparisons = described(scores, references or {})
    scores = with_pooled_sums(scores)
    main, _ = one_stratum(scores)
    where = " and ".join(
        f"{title_of(dim)} {title_of(str(main[dim].values))}" for dim in strata(scores)
    )

    headings = {f"variable-{index}": title_of(label) for index, label in enumerate(labels)}
    exhibits = [_exhibits(scores, label, illustrations) for label in labels]
    most = _MOST_PICTURES - min(len(comparisons), _MOST_SCORECARDS)
    sections = [
        section(
            anchor,
            title_of(label).capitalize(),
            *_verdict(main.sel(variable=label), scores.sel(variable=label)),
            *shown(of_label, count),
        )
        for anchor, label, of_label, count in zip(
            headings, labels, exhibits, shares(most, list(map(len, exhibits))), strict=True
        )
    ]
    joint = joint_tables(main)
    anchors = {
        **({"scorecard": "scorecard"} if comparisons else {}),
        **({"joint": "fields as a whole"} if joint else {}),
        **headings,
        "method": "method",
        **({"provenance": "provenance"} if provenance else {}),
    }
    summaries = [variable_summary(main.sel(variable=label)) for label in labels]
    body = [
        heading(title),
        paragraph(headline(main, comparisons), kind="lead"),
        paragraph(f"Where nothing else is said, scores are of {where}.") if where else "",
        bullets(summaries) if len(labels) > 1 else "",
        properties({title_of(name).capitalize(): what for name, what in words.items()}),
        navigation(anchors),
        _scorecards(comparisons) if comparisons else "",
        section("joint", "Fields as a whole", *joint) if joint else "",
        *sections,
        section("method", "Method", properties(_method(main, comparisons))),
        section("provenance", "Provenance", properties(provenance)) if provenance else "",
    ]
    with staged(path, overwrite=True) as temporary:
        temporary.write_text(document(title, "\n".join(body)), encoding="utf-8")
    return Path(path)


def _verdict(main: xr.Dataset, scores: xr.Dataset) -> list[str]:
    """Where one variable's forecasts fail, and their scores, also of each region or season."""
    markup = [paragraph(shortcomings(main), kind="failure"), score_table(main)]
    for dim in strata(scores):
        markup += [subheading(f"By {title_of(dim)}"), strata_table(scores, dim)]
    return markup


def _exhibits(scores: xr.Dataset, label: str, illustrations: Illustrations | None) -> list[Exhibit]:
    """Pictures of one variable, in the page's order."""
    exhibits = score_exhibits(scores, label)
    if has_spectra(scores):
        exhibits.append(stored_spectra(scores, label))
    elif illustrations is not None:
        exhibits.append(illustrations.spectra(label))
    if illustrations is not None:
        exhibits += illustrations.of_case(label)
    return exhibits


def _scorecards(comparisons: Mapping[str, xr.Dataset]) -> str:
    """Section of the comparisons with references."""
    exhibits = []
    for name, comparison in comparisons.items():
        score = str(comparison.attrs.get("score", "crps"))
        title = f"{'CRPS' if score == 'crps' else title_of(score)} relative to {title_of(name)}"
        found = significance(comparison, name) if "significant" in comparison else "not tested"
        exhibits.append(
            Exhibit(
                f"scorecard against {title_of(name)}",
                partial(plot_scorecard, comparison, title=title),
                f"Scorecard: {title} in percent, by variable and lead time. Significantly {found}.",
                f"Difference in percent of the reference's score. Significantly {found}, over all "
                f"cells drawn.{_independence(comparison)}",
            )
        )
    return section("scorecard", "Scorecard", *shown(exhibits, _MOST_SCORECARDS))


def _independence(comparison: xr.Dataset) -> str:
    """Say how much less than they seem successive forecasts tell, where it is known."""
    if not {"effective_sample_size", "pairs"} <= set(comparison):
        return ""
    size = float(comparison["effective_sample_size"].median())
    pairs = int(comparison["pairs"].max())
    if not size < pairs:  # not known either
        return ""
    return (
        f" Successive forecasts resemble each other: the {pairs} compared count as {size:.0f} "
        "independent ones in the median."
    )


def _method(scores: xr.Dataset, comparisons: Mapping[str, xr.Dataset]) -> dict[str, Any]:
    """How the scores were made, as far as they say so themselves."""
    attrs = scores.attrs
    first, _, last = str(attrs.get("period", "")).partition("/")
    method: dict[str, Any] = {
        "forecasts": attrs.get("inits"),
        "first and last initial time": [first, last] if last else first or None,
        "members": attrs.get("members"),
        "CRPS estimator": attrs.get("estimator"),
        "missing forecast values": attrs.get("nan"),
        "spread-skill ratio": "spread / RMSE of the ensemble mean, with the factor "
        "sqrt((M + 1) / M) for M members; averaged over cells and forecasts before the root",
    }
    for name, comparison in comparisons.items():
        attrs = comparison.attrs
        known = {key: attrs.get(key) for key in ("score", "estimator", "test", "level")}
        if "pairs" in comparison:
            known["initial times compared"] = int(comparison["pairs"].max())
        untested = comparison["p_value"].attrs.get("untested") if "p_value" in comparison else None
        known["not tested"] = untested
        method[f"comparison with {title_of(name)}"] = {
            k: v for k, v in known.items() if v is not None
        }
    if "missing_valid_times" in scores:
        method["valid times without observation"] = int(scores["missing_valid_times"].sum())
    return {name: value for name, value in method.items() if value is not None}
