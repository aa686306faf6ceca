"""The report's contents, in order, written in one step."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.plotting import (
    plot_forecast_maps,
    plot_plume,
    plot_rank_histogram,
    plot_scores,
    plot_spectrum,
)
from weatherdiff.plotting.appearance import format_time, title_of
from weatherdiff.plotting.scores import reference_names
from weatherdiff.plotting.selection import forecast_and_observation
from weatherdiff.report.cases import Case, choose_case, choose_points, spectrum_inits
from weatherdiff.report.page import (
    bullets,
    document,
    heading,
    navigation,
    paragraph,
    picture,
    properties,
    score_table,
    section,
    subheading,
)
from weatherdiff.report.verdict import headline, shortcomings, variable_summary
from weatherdiff.staging import staged

__all__ = ["write_report"]

Points = Mapping[str, tuple[float, float]]


def write_report(
    path: str | os.PathLike[str],
    *,
    scores: xr.Dataset,
    forecasts: xr.Dataset,
    observations: xr.Dataset,
    provenance: Mapping[str, Any] | None = None,
    title: str = "Ensemble forecasts, verified",
    references: Mapping[str, str] | None = None,
    points: Points | None = None,
) -> Path:
    """Write a self-contained HTML page of verdict, score tables, pictures and provenance.

    The page needs no other file and makes no request. Equal inputs give equal bytes. It appears
    under its name when it is whole; a failure leaves an earlier one as it was.

    Parameters
    ----------
    path : path-like
        The file to write; an existing one is replaced, missing folders are made.
    scores : (variable, lead_time[, ...])
        What :func:`weatherdiff.evaluation.evaluate` returns.
    forecasts : (init_time, lead_time, number[, level], latitude, longitude)
        With every scored channel. One forecast is shown and up to eight enter the spectra; if lazy,
        no others are read.
    observations : (time[, level], latitude, longitude)
        Analyses on the same grid.
    provenance : mapping, optional
        Where data and model come from, licence and credit, seeds, versions, ...: text, numbers,
        lists and mappings, nested at will.
    title : str
        Heading of the page.
    references : mapping of str to str, optional
        What each reference forecast is, in words, by its name in the scores.
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
    for label in labels:
        forecast_and_observation(forecasts, observations, label)  # refused before the work begins
    case = choose_case(scores, forecasts)
    shown = forecasts.sel(init_time=[case.init_time])
    places = choose_points(shown, labels) if points is None else points
    sample = forecasts.sel(init_time=spectrum_inits(forecasts, observations))

    headings = {f"variable-{index}": title_of(label) for index, label in enumerate(labels)}
    sections = [
        section(
            anchor,
            title_of(label).capitalize(),
            *_verdict(scores.sel(variable=label)),
            *_score_pictures(scores, label),
            *_case_pictures(shown, observations, label, case, places),
            _spectra(sample, observations, label),
        )
        for anchor, label in zip(headings, labels, strict=True)
    ]
    summaries = [variable_summary(scores.sel(variable=label)) for label in labels]
    body = [
        heading(title),
        paragraph(headline(scores), kind="lead"),
        bullets(summaries) if len(labels) > 1 else "",
        navigation(
            headings | {"method": "method"} | ({"provenance": "provenance"} if provenance else {})
        ),
        *sections,
        section("method", "Method", properties(_method(scores, references or {}))),
        section("provenance", "Provenance", properties(provenance)) if provenance else "",
    ]
    with staged(path, overwrite=True) as temporary:
        temporary.write_text(document(title, "\n".join(body)), encoding="utf-8")
    return Path(path)


def _verdict(scores: xr.Dataset) -> list[str]:
    return [paragraph(shortcomings(scores), kind="failure"), score_table(scores)]


def _score_pictures(scores: xr.Dataset, label: str) -> list[str]:
    name = title_of(label)
    pictures = [
        picture(
            plot_scores(scores, variable=label),
            alt=f"CRPS, skill, error with spread, and their ratio against lead time, for {name}; "
            "the numbers are in the table above.",
        )
    ]
    if "rank_histogram" in scores:
        pictures.append(
            picture(
                plot_rank_histogram(scores, variable=label),
                alt=f"Rank histograms of {name} at up to four lead times, with the uniform line.",
                caption="Flat if members and observation are exchangeable; a bowl if the members "
                "are too close together, a dome if too far apart, a slope if they are biased. "
                "Neighbouring cells are not independent, so that no sampling band is drawn.",
            )
        )
    return pictures


def _case_pictures(
    shown: xr.Dataset, observations: xr.Dataset, label: str, case: Case, places: Points
) -> list[str]:
    name, init = title_of(label), format_time(case.init_time)
    pictures = [
        subheading(f"The forecast from {init}"),
        paragraph(f"Shown is {case.reason}."),
        picture(
            plot_forecast_maps(shown, observations, variable=label),
            alt=f"Maps of {name} forecast from {init}, a row for each of up to four lead times: "
            "observation, two members, ensemble mean, spread and error of the mean.",
            caption="Grey: masked cells, or no observation. Observation, members and mean share "
            "one colour scale; the outer 1 % of the values lie beyond its ends.",
        ),
    ]
    for place, (latitude, longitude) in places.items():
        try:
            figure = plot_plume(
                shown, observations, variable=label, latitude=latitude, longitude=longitude
            )
        except InputError as error:  # a place of the user's, or another variable's mask
            pictures.append(paragraph(f"No plume for {place}: {error}"))
            continue
        alt = f"Plume of {name} forecast from {init}: members, quantiles and observation."
        pictures.append(picture(figure, alt=alt, caption=f"{place[:1].upper()}{place[1:]}."))
    return pictures


def _spectra(sample: xr.Dataset, observations: xr.Dataset, label: str) -> str:
    cases = sample.sizes["init_time"]
    if not cases:
        return paragraph("No spectra: no forecast has all its valid times observed.")
    try:
        figure = plot_spectrum(sample, observations, variable=label)
    except InputError as error:
        return paragraph(f"No spectra: {error}")
    return picture(
        figure,
        alt=f"Zonal power spectra of {title_of(label)}: observation, members, ensemble mean.",
        caption=f"Average of {cases} forecasts. Members with the detail of the observed fields "
        "have ratio 1; the ensemble mean rightly loses what cannot be predicted. Rows that do not "
        "go round the globe are detrended and tapered.",
    )


def _method(scores: xr.Dataset, references: Mapping[str, str]) -> dict[str, Any]:
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
        "references": {name: references.get(name) for name in reference_names(scores)},
    }
    if "missing_valid_times" in scores:
        method["valid times without observation"] = int(scores["missing_valid_times"].sum())
    return {name: value for name, value in method.items() if value is not None}
