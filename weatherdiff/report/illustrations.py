"""Pictures of forecasts beside what was observed: one case, some places, spectra."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import xarray as xr

from weatherdiff.errors import InputError
from weatherdiff.plotting import plot_forecast_maps, plot_plume, plot_spectrum
from weatherdiff.plotting.appearance import format_time, title_of
from weatherdiff.plotting.selection import forecast_and_observation
from weatherdiff.report.cases import Case, choose_case, choose_points, spectrum_inits
from weatherdiff.report.exhibits import Exhibit
from weatherdiff.report.page import paragraph, subheading

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Illustrations", "Points"]

Points = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Illustrations:
    """What is shown of the forecasts.

    Parameters
    ----------
    shown : (init_time, lead_time, number[, level], latitude, longitude)
        The one forecast that is drawn.
    sample : (init_time, ...)
        The forecasts that enter spectra.
    observations : (time, ...)
        Analyses.
    case : Case
        Which forecast is shown, and why.
    places : mapping
        Latitude and longitude of the plumes by description.
    """

    shown: xr.Dataset
    sample: xr.Dataset
    observations: xr.Dataset
    case: Case
    places: Points

    @classmethod
    def choose(
        cls,
        scores: xr.Dataset,
        forecasts: xr.Dataset,
        observations: xr.Dataset,
        points: Points | None,
    ) -> Illustrations:
        """Choose what to show by rules that do not look for good pictures.

        Raises
        ------
        InputError
            A scored channel is missing from the data, or there are no forecasts.
        GridMismatchError, UnitsError
            Forecasts and observations differ in grid or units.
        """
        labels = [str(label) for label in scores["variable"].values]
        for label in labels:
            forecast_and_observation(forecasts, observations, label)
        case = choose_case(scores, forecasts)
        shown = forecasts.sel(init_time=[case.init_time])
        places = choose_points(shown, labels) if points is None else points
        sample = forecasts.sel(init_time=spectrum_inits(forecasts, observations))
        return cls(shown, sample, observations, case, places)

    def of_case(self, label: str) -> list[Exhibit]:
        """Give the maps and plumes of one variable in the forecast shown."""
        name, init = title_of(label), format_time(self.case.init_time)
        exhibits = [
            Exhibit(
                f"maps of the forecast from {init}",
                partial(plot_forecast_maps, self.shown, self.observations, variable=label),
                f"Maps of {name} forecast from {init}, a row for each of up to four lead times: "
                "observation, two members, ensemble mean, spread and error of the mean.",
                "Grey: masked cells, or no observation. Observation, members and mean share "
                "one colour scale; the outer 1 % of the values lie beyond its ends.",
                rank=1,
                before=subheading(f"The forecast from {init}")
                + paragraph(f"Shown is {self.case.reason}."),
            )
        ]
        for position, (place, (latitude, longitude)) in enumerate(self.places.items()):
            draw = partial(plot_plume, variable=label, latitude=latitude, longitude=longitude)
            exhibits.append(
                Exhibit(
                    f"plume for {place}",
                    partial(draw, self.shown, self.observations),
                    f"Plume of {name} forecast from {init}: members, quantiles and observation.",
                    f"{place[:1].upper()}{place[1:]}.",
                    rank=7 + 5 * position,
                )
            )
        return exhibits

    def spectra(self, label: str) -> Exhibit:
        """Spectra of one variable in the sample."""
        return Exhibit(
            "spectra",
            partial(self._spectrum, label),
            f"Power spectra of {title_of(label)}: observation, members, ensemble mean.",
            f"Average of {self.sample.sizes['init_time']} forecasts. Members with the detail of "
            "the observed fields have ratio 1; the ensemble mean rightly loses what cannot be "
            "predicted. Fields that do not cover the globe are detrended and tapered.",
            rank=3,
        )

    def _spectrum(self, label: str) -> Figure:
        if not self.sample.sizes["init_time"]:
            raise InputError("no forecast has all its valid times observed.")
        return plot_spectrum(self.sample, self.observations, variable=label)
