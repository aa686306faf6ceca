r"""Baselines on real data: daily sea-level pressure of the North Atlantic, 2001-2010.

Trained on 2001-2007, chosen on 2008, scored on 2009-2010: area-weighted CRPS in Pa at 1, 2, 3, 5,
7 and 10 days, over the initial times whose forecasts lie within the years scored.

- harmonic climatology: its Gaussian, in closed form, and an ensemble of rescaled residuals;
- climatology of training days; persistence (absolute error); analogs;
- linear inverse model from one day and from several: the Gaussian, in closed form, and an
  ensemble. Truncation and history are those of the lowest mean CRPS on 2008, as is the number of
  analogs.

The figures to reach stand beside them. Run it with the file::

    python scripts/benchmarks/baselines.py ncep_slp_natlantic_2001_2010.nc --json baselines.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.stats
import xarray as xr

from weatherdiff import open_fields
from weatherdiff.evaluation import crps_ensemble
from weatherdiff.evaluation.baselines import (
    AnalogEnsemble,
    ClimatologyEnsemble,
    LinearInverseModel,
    Persistence,
    Reference,
    SmoothClimatology,
)
from weatherdiff.grid import Grid
from weatherdiff.progress import progress_bar

DAYS = (1, 2, 3, 5, 7, 10)
LEADS = np.array(DAYS, dtype="timedelta64[D]").astype("timedelta64[ns]")
TRAINING, VALIDATION, TEST = ("2001", "2007"), ("2008", "2008"), ("2009", "2010")
TRUNCATIONS = (10, 15, 20, 30, 40, 60)
HISTORIES = (1, 2, 3, 4)
ANALOGS = (10, 20, 30, 50)
BLOCK = 32
# Measured before, on the same split: harmonic climatology and the best linear inverse model as
# Gaussians, persistence by its absolute error.
TO_REACH = {
    "harmonic climatology, Gaussian": (517, 518, 519, 520, 521, 521),
    "linear inverse model, 1 day, Gaussian": (273, 399, 449, 486, 503, 513),
    "persistence": (440, 663, 759, 859, 915, 958),
}

Scores = npt.NDArray[np.float64]


def main(argv: Sequence[str] | None = None) -> int:
    """Score every baseline; print a table and perhaps write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, help="the analyses, as open_fields takes them")
    parser.add_argument("--json", type=Path, help="write the results there")
    parser.add_argument("--members", type=int, default=50, help="of the ensembles")
    options = parser.parse_args(argv)

    analyses = open_fields(options.file).load()
    start = time.process_time()
    scores, chosen = benchmark(analyses, options.members)
    result = {
        "unit": "Pa",
        "days": DAYS,
        "members": options.members,
        "initial_times": len(init_times(analyses, TEST)),
        "chosen_on_2008": chosen,
        "crps": {name: [round(float(x), 2) for x in values] for name, values in scores.items()},
        "to_reach": TO_REACH,
        "processor_seconds": round(time.process_time() - start, 1),
    }
    print(table(result))
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def benchmark(analyses: xr.Dataset, members: int) -> tuple[dict[str, Scores], dict[str, int]]:
    """CRPS of each baseline on the test years by lead time, and what 2008 chose."""
    with progress_bar("baselines", "forecasts") as report:
        candidates = {}
        for history in HISTORIES:
            largest = LinearInverseModel(
                analyses,
                period=TRAINING,
                members=members,
                truncation=max(TRUNCATIONS),
                history=history,
            )
            candidates |= {(history, count): largest.truncated(count) for count in TRUNCATIONS}
        mean = {k: gaussian(lim, analyses, VALIDATION).mean() for k, lim in candidates.items()}
        one_day = min((key for key in mean if key[0] == 1), key=mean.__getitem__)
        best = min(mean, key=mean.__getitem__)
        lims = {
            "linear inverse model, 1 day": candidates[one_day],
            "linear inverse model, best history": candidates[best],
        }
        chosen = {
            "truncation from 1 day": one_day[1],
            "best history": best[0],
            "its truncation": best[1],
        }
        analogs = {k: AnalogEnsemble(analyses, period=TRAINING, members=k) for k in ANALOGS}
        on_2008 = {k: ensemble(a, analyses, VALIDATION) for k, a in analogs.items()}
        chosen["analogs"] = min(on_2008, key=lambda k: on_2008[k].mean())
        smooth = SmoothClimatology(analyses, period=TRAINING, members=members)
        ensembles: dict[str, Reference] = {
            "harmonic climatology, ensemble": smooth,
            "climatology of training days": ClimatologyEnsemble(analyses, period=TRAINING),
            "persistence": Persistence(analyses),
            "analogs": analogs[chosen["analogs"]],
            **{f"{name}, ensemble": lim for name, lim in lims.items()},
        }
        scores = {"harmonic climatology, Gaussian": gaussian(smooth, analyses, TEST)}
        for name, lim in lims.items():
            scores[f"{name}, Gaussian"] = gaussian(lim, analyses, TEST)
        for done, (name, reference) in enumerate(ensembles.items(), start=1):
            scores[name] = ensemble(reference, analyses, TEST)
            report(done, len(ensembles), name)
    return scores, chosen


def init_times(analyses: xr.Dataset, years: tuple[str, str]) -> npt.NDArray[np.datetime64]:
    """Give the initial times of the years whose last valid time is so too."""
    times = analyses["time"].sel(time=slice(*years)).values
    return times[times + LEADS[-1] <= times[-1]]


def ensemble(reference: Reference, analyses: xr.Dataset, years: tuple[str, str]) -> Scores:
    """Fair CRPS of an ensemble (absolute error of one member) by lead time, a block at a time."""
    estimator = "standard" if reference.members == 1 else "fair"

    def crps(inits: npt.NDArray[np.datetime64], truth: xr.DataArray) -> xr.DataArray:
        forecast = reference.forecast(inits, LEADS)[str(truth.name)].load()
        return crps_ensemble(forecast, truth, estimator=estimator)

    return average(crps, analyses, years)


def gaussian(
    model: SmoothClimatology | LinearInverseModel, analyses: xr.Dataset, years: tuple[str, str]
) -> Scores:
    """CRPS of the Gaussian of a model in closed form (Gneiting & Raftery 2007, eq. 21)."""

    def crps(inits: npt.NDArray[np.datetime64], truth: xr.DataArray) -> xr.DataArray:
        if isinstance(model, SmoothClimatology):
            valid = inits[:, np.newaxis] + LEADS
            moments = model.mean(valid), model.standard_deviation(valid)
        else:
            moments = model.marginals(inits, LEADS)
        mean, spread = (ds[str(truth.name)].values for ds in moments)
        z = (truth.values - mean) / spread
        normal = scipy.stats.norm
        return truth.copy(
            data=spread * (z * (2 * normal.cdf(z) - 1) + 2 * normal.pdf(z) - 1 / np.sqrt(np.pi))
        )

    return average(crps, analyses, years)


def average(crps: Any, analyses: xr.Dataset, years: tuple[str, str]) -> Scores:
    """Mean over cells, by area, and initial times of a pointwise score, by lead time."""
    weights = Grid.from_dataset(analyses).area_weights()
    (field,) = analyses.data_vars.values()
    inits = init_times(analyses, years)
    total = np.zeros(len(LEADS))
    for start in range(0, inits.size, BLOCK):
        block = inits[start : start + BLOCK]
        valid = xr.DataArray(
            block[:, np.newaxis] + LEADS,
            {"init_time": block, "lead_time": LEADS},
            ("init_time", "lead_time"),
        )
        truth = field.sel(time=valid).drop_vars("time")
        points = crps(block, truth).weighted(weights).mean(("latitude", "longitude"))
        total += points.transpose("lead_time", "init_time").values.sum(axis=1)
    return total / inits.size


def table(result: dict[str, Any]) -> str:
    """Results for people."""
    lines = [f"{'CRPS [Pa] at days':45}" + "".join(f"{day:>8}" for day in result["days"])]
    for name, values in result["crps"].items():
        lines.append(f"{name:45}" + "".join(f"{value:8.1f}" for value in values))
        if name in result["to_reach"]:
            reach = result["to_reach"][name]
            lines.append(f"{'  to reach':45}" + "".join(f"{value:8.0f}" for value in reach))
    lines.append(f"chosen on 2008: {result['chosen_on_2008']}")
    lines.append(
        f"{result['members']} members, {result['initial_times']} initial times, "
        f"{result['processor_seconds']} processor seconds"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
