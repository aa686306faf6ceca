"""Power spectra of members, their mean and the observation in the streaming pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from weatherdiff.evaluation.fields.statistic import FORECAST, Array, FieldSums, Sums
from weatherdiff.evaluation.spectra import Spectrum

if TYPE_CHECKING:
    from weatherdiff.evaluation.matching import Match
    from weatherdiff.evaluation.totals import Total

__all__ = ["PowerSpectra", "power_scores"]

_DIMS = ("variable", "init_time", "lead_time")
_SERIES = ("members", "mean", "observation")


@dataclass(frozen=True)
class PowerSpectra:
    """Mean power of the members, power of their mean and of the observation, by wavenumber.

    Frames with a missing cell have no spectrum and are left out; see
    :mod:`weatherdiff.evaluation.spectra`.
    """

    def coordinates(self, match: Match) -> dict[str, Any]:
        """Wavenumbers."""
        spectrum = Spectrum(match.grid)
        name = "total wavenumber" if spectrum.units == "1" else "wavenumber"
        attrs = {"long_name": name, "units": spectrum.units}
        return {"wavenumber": ("wavenumber", spectrum.wavenumber, attrs)}

    def begin(self, match: Match) -> FieldSums:
        """Start the sums of a block.

        Raises
        ------
        InputError
            The grid is not evenly spaced.
        """
        return _PowerSums(match)


class _PowerSums:
    def __init__(self, match: Match) -> None:
        self._spectrum = Spectrum(match.grid)
        shape = (len(match.units), len(match.inits), len(match.leads))
        self._weight = np.zeros(shape)
        waves = self._spectrum.wavenumber.size
        self._power = {name: np.zeros((*shape, waves)) for name in _SERIES}

    def add(
        self, place: tuple[int, int, int], observation: Array, ensembles: Mapping[str, Array]
    ) -> None:
        members = ensembles[FORECAST]
        if not np.isfinite(observation).all() or not np.isfinite(members.sum()):
            return
        self._weight[place] = 1
        power = self._spectrum.power
        self._power["members"][place] = power(members).mean(axis=0)
        self._power["mean"][place] = power(members.mean(axis=0, dtype=np.float64))[0]
        self._power["observation"][place] = power(observation)[0]

    def result(self) -> Sums:
        powers = {f"power_{name}": ((*_DIMS, "wavenumber"), p) for name, p in self._power.items()}
        return {"power_weight": (_DIMS, self._weight), **powers}


def power_scores(
    total: Total, estimator: str, ensemble_size: int | None
) -> dict[str, xr.DataArray]:
    """Mean power spectra, if they are among the sums; NaN where no frame has all its cells."""
    if "sum_power_weight" not in total.statistics:
        return {}
    weight = total("sum_power_weight")
    weight = weight.where(weight > 0)
    return {f"power_{name}": total(f"sum_power_{name}") / weight for name in _SERIES}
