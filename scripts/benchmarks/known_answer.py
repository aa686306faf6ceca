r"""Known answer: how near a trained model comes to the best forecast that there can be.

Two simulated systems have a known predictive distribution. On each, a model is trained by the
same functions that ``weatherdiff run`` calls (prepare, train, forecast), on a 32 x 64 globe, and
its CRPS is set in proportion to that of the true predictive distribution on the same initial
times of a test period that the training never saw:

- ``linear``: :class:`LinearStochasticField`, two variables, 6 leads forecast jointly over which
  the predictability falls from 90% to 10%. The CRPS of the truth is the closed form
  :math:`\sigma/\sqrt\pi`. The model must be within 5% of it at every lead.
- ``nonlinear``: :class:`BetaPlaneChannel`, a chaotic flow of four variables. The truth is sampled:
  50 restarts from each initial state with fresh noise. The ratio is printed.

Beside the ratio to the closed form stands the one to 50 members sampled from the truth: those meet
the same outcomes, so that its interval is much narrower. Intervals hold 95% of a bootstrap over
blocks of consecutive initial times (Kuensch, 1989, doi:10.1214/aos/1176347265). All CRPS are fair
(Ferro, 2014, doi:10.1002/qj.2270), weighted with cell areas.

The exit code is 1 if a linear ratio is above 1.05, except with ``--quick``, whose training is far
too short and only shows that everything runs.

    OMP_NUM_THREADS=1 python scripts/benchmarks/known_answer.py --json results.json
"""

import argparse
import json
import logging
import os
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff import workflow
from weatherdiff.config import Config
from weatherdiff.data.simulator import BetaPlaneChannel, LinearStochasticField, Simulator
from weatherdiff.evaluation import crps_ensemble, ensemble_variance
from weatherdiff.forecasting.writer import open_forecasts

LIMIT = 1.05  # of the ratio to the closed form
START = np.datetime64("2000-01-01", "ns")
FILE_FRAMES = 4000  # of one NetCDF file
RESAMPLES = 2000
BLOCK = 4  # initial times a bootstrap block
SEED = 1

Scores = xr.DataArray
"""Area mean of the CRPS, (init_time, lead_time, variable)."""


@dataclass(frozen=True)
class Experiment:
    """One system and the settings of its training.

    Parameters
    ----------
    simulator : Simulator
    leads : int
        Frames forecast jointly.
    training_frames, validation_frames : int
        Length of the periods in frames; the test period follows.
    inits, spacing : int
        Number of initial times, and frames from one to the next.
    model, training : dict
        Sections of the configuration.
    sampler_steps : int
        Heun steps.
    members : int
        Size of the ensembles, the model's and those of the truth.
    """

    simulator: Simulator
    leads: int
    training_frames: int
    model: dict[str, Any]
    training: dict[str, Any]
    validation_frames: int = 400
    inits: int = 240
    spacing: int = 6
    sampler_steps: int = 4
    members: int = 50

    @property
    def test_frames(self) -> int:
        """Length of the test period."""
        return (self.inits - 1) * self.spacing + self.leads + 1

    def quick(self) -> "Experiment":
        """Shrink to a minute's work."""
        training = {**self.training, "steps": 60, "validate_every": 60, "validation_windows": 8}
        return replace(
            self, training_frames=400, validation_frames=60, inits=8, members=10, training=training
        )


EXPERIMENTS = {
    "linear": Experiment(
        simulator=LinearStochasticField(),
        leads=6,
        training_frames=20_000,
        model={"size": "tiny"},
        training={
            "steps": 5_000,
            "batch_size": 8,
            "learning_rate": 2e-3,
            "validate_every": 1000,
        },
    ),
    "nonlinear": Experiment(
        simulator=BetaPlaneChannel(step_hours=12),
        leads=6,
        training_frames=8_000,
        model={"size": "tiny"},
        training={
            "steps": 8_000,
            "batch_size": 8,
            "learning_rate": 2e-3,
            "validate_every": 2000,
        },
        inits=200,
    ),
}


def main() -> int:
    """Run both experiments, print their tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a minute's work, no verdict")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    parser.add_argument("--threads", type=int, default=1, help="of the network (default: 1)")
    parser.add_argument("--only", choices=EXPERIMENTS, help="leave the other experiment out")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")

    results = {}
    for name in [arguments.only] if arguments.only else EXPERIMENTS:
        experiment = EXPERIMENTS[name].quick() if arguments.quick else EXPERIMENTS[name]
        with tempfile.TemporaryDirectory(prefix="known_answer_") as folder:
            results[name] = run(experiment, Path(folder), threads=arguments.threads)
        print(f"\n{name}: {experiment.simulator}\n{table(results[name])}\n", flush=True)
    if arguments.json:
        document = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": shlex.join(["python", *sys.argv]),
            "quick": arguments.quick,
            "computer": {"machine": platform.platform(), "cpus": os.cpu_count()},
            "versions": {"python": platform.python_version(), **workflow.versions()},
            "experiments": results,
        }
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    if arguments.quick or "linear" not in results:
        return 0
    worst = max(row["ratio"] for row in results["linear"]["rows"])
    print(f"linear: the largest ratio to the closed form is {worst:.3f}; at most {LIMIT} is asked.")
    return int(worst > LIMIT)


def run(experiment: Experiment, folder: Path, *, threads: int) -> dict[str, Any]:
    """Simulate, prepare, train, forecast and score; plain types."""
    simulator, leads = experiment.simulator, experiment.leads
    frames = experiment.training_frames + experiment.validation_frames + experiment.test_frames
    # The test period's own start is a forecast's history.
    frames += 2 * simulator.history
    clock: dict[str, float] = {}
    with timed(clock, "simulate"):
        for number, block in enumerate(
            simulator.simulate_blocks(frames, seed=SEED, start=START, block_steps=FILE_FRAMES)
        ):
            block.to_netcdf(folder / f"analysis_{number:03}.nc")
    config = configuration(experiment, folder, threads)
    for verb in (workflow.prepare, workflow.train, workflow.forecast):
        with timed(clock, verb.__name__):
            verb(config)

    with timed(clock, "score"):
        analysis = workflow.open_source(config)
        forecasts = open_forecasts(config.forecasts)
        model, truth, spread = [], [], []
        for time_ in forecasts["init_time"].values:
            drawn = simulator.sample_predictive(
                analysis, init_times=time_, leads=leads, members=experiment.members, seed=SEED
            )
            model.append(crps(forecasts.sel(init_time=[time_]), analysis, simulator))
            truth.append(crps(drawn, analysis, simulator))
            spread.append(area_mean(drawn.map(ensemble_variance), simulator))
        scores = xr.concat(model, "init_time"), xr.concat(truth, "init_time")
    if isinstance(simulator, LinearStochasticField):
        closed = simulator.expected_crps(leads).to_dataarray().transpose("lead_time", "variable")
        explained = simulator.predictability(leads).to_dataarray()
    else:
        closed = None
        test = analysis.isel(time=slice(-experiment.test_frames, None)).load()
        climate = area_mean(test.var("time"), simulator)
        explained = 1 - xr.concat(spread, "init_time").mean("init_time") / climate
    return {
        "settings": {
            "simulator": repr(simulator),
            **config.model_dump(mode="json", include={"window", "splits", "model", "training"}),
            "forecast": config.forecast.model_dump(mode="json"),
            "initial_times": len(model),
        },
        "seconds": clock,
        "rows": rows(*scores, closed, explained.transpose("lead_time", "variable")),
    }


def configuration(experiment: Experiment, folder: Path, threads: int) -> Config:
    """Write down the run as a user would in YAML."""
    simulator = experiment.simulator

    def span(first: int, count: int) -> tuple[str, str]:
        ends = START + np.array([first, first + count - 1]) * simulator.step
        return tuple(np.datetime_as_string(ends, "m").tolist())

    validation = experiment.training_frames + simulator.history
    test = validation + experiment.validation_frames + simulator.history
    return Config.model_validate(
        {
            "output": folder / "run",
            "data": {"source": str(folder / "analysis_*.nc")},
            "window": {
                "step": f"{simulator.step_hours}h",
                "history": simulator.history,
                "frames": experiment.leads,
            },
            "splits": {
                "training": span(0, experiment.training_frames),
                "validation": span(validation, experiment.validation_frames),
                "test": span(test, experiment.test_frames),
            },
            "forcings": [],  # neither system knows the clock
            "model": experiment.model,
            "training": {"patience": 1000, "seed": SEED, **experiment.training},
            "forecast": {
                "members": experiment.members,
                "lead_time": f"{experiment.leads * simulator.step_hours}h",
                "every": experiment.spacing,
                "steps": experiment.sampler_steps,
                "seed": SEED,
            },
            "threads": threads,
        }
    )


def area_mean(fields: xr.Dataset, simulator: Simulator) -> xr.DataArray:
    """Area means, all variables in one array."""
    means = fields.weighted(simulator.grid.area_weights()).mean(("latitude", "longitude"))
    return means.to_dataarray()


def crps(forecasts: xr.Dataset, analysis: xr.Dataset, simulator: Simulator) -> Scores:
    """Fair CRPS of forecasts from one initial time, area means."""
    verifying = analysis.sel(time=forecasts["valid_time"].load()).load().drop_vars("time")
    points = {
        name: crps_ensemble(forecasts[name].load(), verifying[name]) for name in forecasts.data_vars
    }
    return area_mean(xr.Dataset(points), simulator).transpose("init_time", "lead_time", "variable")


def rows(
    model: Scores, truth: Scores, closed: xr.DataArray | None, explained: xr.DataArray
) -> list[dict[str, Any]]:
    """One row a variable and lead: CRPS, ratios and their intervals."""
    names = model["variable"]
    truth, explained = truth.sel(variable=names), explained.sel(variable=names)
    closed = None if closed is None else closed.sel(variable=names)
    weights = block_bootstrap(model.sizes["init_time"])

    def resampled(scores: Scores) -> npt.NDArray[np.float64]:
        return np.tensordot(weights, scores.to_numpy(), axes=1)

    mean = model.mean("init_time"), truth.mean("init_time")
    paired = resampled(model) / resampled(truth)
    out = []
    for v, name in enumerate(model["variable"].values):
        for lead, duration in enumerate(model["lead_time"].values):
            at = {"lead_time": lead, "variable": v}
            row: dict[str, Any] = {
                "variable": str(name),
                "lead_hours": int(duration / np.timedelta64(1, "h")),
                "predictability": float(explained.isel(at)),
                "crps": float(mean[0].isel(at)),
                "crps_sampled_truth": float(mean[1].isel(at)),
                "ratio_to_sampled_truth": float(mean[0].isel(at) / mean[1].isel(at)),
                "ratio_to_sampled_truth_interval": interval(paired[:, lead, v]),
            }
            if closed is not None:
                best = float(closed.isel(at))
                row["crps_closed_form"] = best
                row["ratio"] = row["crps"] / best
                row["ratio_interval"] = interval(resampled(model)[:, lead, v] / best)
            out.append(row)
    return out


def block_bootstrap(count: int) -> npt.NDArray[np.float64]:
    """Weights of the initial times in each resample of circular blocks, (resample, init_time)."""
    rng = np.random.default_rng(SEED)
    starts = rng.integers(count, size=(RESAMPLES, -(-count // BLOCK)))
    drawn = ((starts[..., None] + np.arange(BLOCK)) % count).reshape(RESAMPLES, -1)[:, :count]
    return np.stack([np.bincount(sample, minlength=count) for sample in drawn]) / count


def interval(values: npt.NDArray[np.float64]) -> list[float]:
    """95% of the resamples."""
    return np.quantile(values, [0.025, 0.975]).tolist()


def table(result: dict[str, Any]) -> str:
    """Results of one experiment for people."""
    lines = [
        f"{'variable':26}{'lead':>6}{'predict.':>10}{'CRPS':>10}"
        f"{'ratio to closed form':>24}{'ratio to 50 true members':>28}"
    ]
    for row in result["rows"]:
        paired = ratio_text(row["ratio_to_sampled_truth"], row["ratio_to_sampled_truth_interval"])
        best = ratio_text(row["ratio"], row["ratio_interval"]) if "ratio" in row else "none"
        lines.append(
            f"{row['variable']:26}{row['lead_hours']:>4} h{row['predictability']:>10.1%}"
            f"{row['crps']:>10.4g}{best:>24}{paired:>28}"
        )
    seconds = ", ".join(f"{verb} {value:.0f}" for verb, value in result["seconds"].items())
    return "\n".join([*lines, f"processor seconds: {seconds}"])


def ratio_text(ratio: float, ends: list[float]) -> str:
    """Format a ratio with its interval."""
    return f"{ratio:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]"


@contextmanager
def timed(clock: dict[str, float], name: str) -> Iterator[None]:
    """Note the processor time of a block."""
    start = time.process_time()
    yield
    clock[name] = round(time.process_time() - start, 1)


if __name__ == "__main__":
    sys.exit(main())
