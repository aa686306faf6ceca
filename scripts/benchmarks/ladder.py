r"""The ladder measured: the same network, data, seeds and processor minutes for every rung.

Each rung (:data:`weatherdiff.flow.RUNGS`) is trained on the sample that comes with the package and
on the nonlinear simulator, with three seeds, and sampled with 1 to 32 evaluations of the network,
by the sampler that suits it. Flow matching and noise prediction are trained again on 30 and 300
windows of the sample, beside climatology and a linear inverse model fitted on the same windows.

All scores are of changes from the last frame, each variable and lead in standard deviations of the
training period, on the test period, weighted with cell areas: fair CRPS (Ferro 2014,
doi:10.1002/qj.2270), fair energy score of all variables and cells of a lead divided by the root of
their number (Gneiting & Raftery 2007, doi:10.1198/016214506000001437), spread-skill ratio with the
factor :math:`\sqrt{(M+1)/M}`, and the mean absolute :math:`\log_{10}` of the ratio of the members'
zonal power to the truth's over the wavenumbers from 1 that hold a millionth of it or more (masked
cells are 0 in both). Bits per
dimension are exact but for Hutchinson's trace with one probe, of data at a noise-to-data ratio of
0.01; beside them, where the rung has one, stands the variational bound.

Everything but the rung is as in ``configs/ladder.yaml`` (for the simulator, whose 3000 training
frames need no augmentation, as the defaults have it), and the same for all rungs;
the weights that are scored are the averaged ones at the end. The statistics that normalise are
those of the whole training period also where few windows are used; the baselines have the same.

    OMP_NUM_THREADS=1 python scripts/benchmarks/ladder.py --json FILE [--minutes 3] [--rows PATTERN]
    python scripts/benchmarks/ladder.py --json FILE --table

A training that is in the file is skipped, so that an interrupted run goes on where it was; several
processes may share a file if their patterns ask for different trainings.
"""

import argparse
import ast
import fcntl
import fnmatch
import inspect
import json
import math
import os
import platform
import shlex
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from weatherdiff import flow, workflow
from weatherdiff.config import Config, load_config
from weatherdiff.data.loader import Batch, WindowDataset
from weatherdiff.data.prepare import parse_step
from weatherdiff.data.simulator import BetaPlaneChannel
from weatherdiff.data.windows import Period, Windows, WindowSpec, find_windows
from weatherdiff.evaluation import crps_ensemble, energy_score
from weatherdiff.evaluation.scores import ensemble_variance, squared_error_of_mean
from weatherdiff.flow import RUNGS, Objective, Schedule, keyed_generator
from weatherdiff.flow import coupling as flow_coupling
from weatherdiff.flow import variational as flow_variational
from weatherdiff.flow.parameterization import _joined, combine, separate
from weatherdiff.flow.sampler import karras_grid
from weatherdiff.flow.times import lattice, stratified
from weatherdiff.models import Condition, VideoDenoiser
from weatherdiff.models.arithmetic import bfloat16_is_fast
from weatherdiff.training.augmentation import Augmentation
from weatherdiff.training.module import condition_of, sample_members

Array = npt.NDArray[np.float64]
EVALUATIONS = (1, 2, 4, 8, 16, 32)
MEMBERS = 8
TEST_WINDOWS, VALIDATION_WINDOWS, LIKELIHOOD_WINDOWS = 16, 8, 2
VALIDATIONS = 12  # over the training, for the curves
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Training:
    """One cell of the table: what is trained on what."""

    rung: str
    data: str
    seed: int

    @property
    def name(self) -> str:
        """By which ``--rows`` selects."""
        return f"{self.rung}/{self.data}/{self.seed}"


def trainings() -> list[Training]:
    """List all cells; baselines are fitted once."""
    whole = [
        Training(rung, data, seed)
        for seed in range(3)
        for data in ("sample", "simulator")
        for rung in RUNGS
    ]
    little = [
        Training(rung, f"sample-{count}", seed)
        for seed in range(3)
        for count in (30, 300)
        for rung in ("noise_prediction", "flow_matching")
    ]
    baselines = [
        Training(name, data, 0)
        for data in ("sample", "simulator", "sample-30", "sample-300")
        for name in ("climatology", "linear_inverse_model")
    ]
    return baselines + whole + little


def main() -> int:
    """Train what is asked for and not there yet, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, required=True, help="file of the rows")
    parser.add_argument("--minutes", type=float, default=3.0, help="processor minutes a training")
    parser.add_argument("--rows", default="*", help="pattern of rung/data/seed (default: all)")
    parser.add_argument("--folder", type=Path, default=Path("runs/ladder-benchmark"))
    parser.add_argument("--table", action="store_true", help="print the table and stop")
    arguments = parser.parse_args()
    if arguments.table:
        print(table(read(arguments.json)))
        return 0
    torch.set_num_threads(1)
    wanted = [t for t in trainings() if fnmatch.fnmatch(t.name, arguments.rows)]
    for number, training in enumerate(wanted, start=1):
        rows = read(arguments.json)
        if any((r["rung"], r["data"], r["seed"]) == tuple(vars(training).values()) for r in rows):
            continue
        start = time.monotonic()
        new = run(training, arguments.folder, arguments.minutes)
        append(arguments.json, new)
        last = new[-1]
        print(
            f"{number}/{len(wanted)} {training.name}: CRPS {last['crps']:.4f}, "
            f"{last['training_steps']} steps, {time.monotonic() - start:.0f} s",
            flush=True,
        )
    return 0


def run(training: Training, folder: Path, minutes: float) -> list[dict[str, Any]]:
    """Train one cell and score it; one row for each number of evaluations."""
    data = open_data(training.data, folder)
    common = {
        **vars(training),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *sys.argv]),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "torch": torch.__version__,
        "windows": len(data.training),
    }
    if training.rung not in RUNGS:
        members = baseline(training.rung, data)
        blank = dict.fromkeys(("evaluations", "bits_per_dim", "cpu_minutes", "training_steps"))
        return [{**common, **blank, **scores(members, data.test)}]
    objective = RUNGS[training.rung]
    network, curve, steps, used = train(objective, data, training.seed, minutes)
    bits = bits_per_dimension(objective, network, data)
    rows = []
    for evaluations in EVALUATIONS:
        schedule = schedule_of(objective, evaluations)
        members = sample(network, objective, data.test, schedule)
        rows.append(
            {
                **common,
                "evaluations": evaluations,
                "sampler": schedule.sampler,
                "sampler_steps": schedule.steps,
                **scores(members, data.test),
                **bits,
                "cpu_minutes": round(used / 60, 3),
                "training_steps": steps,
                "curve": curve if evaluations == EVALUATIONS[-1] else None,
            }
        )
    return rows


def schedule_of(objective: Objective, evaluations: int) -> Schedule:
    """Give the objective's sampler with at most so many evaluations."""
    schedule = objective.schedule
    if schedule.sampler != "heun":
        return replace(schedule, steps=evaluations)
    # Two steps of Euler's method beat one of Heun's, which is Euler's; and few steps of Karras's
    # grid go too far for Heun's correction.
    if evaluations == 2 or (schedule.grid == "karras" and evaluations < 8):
        return replace(schedule, sampler="euler", steps=evaluations)
    return replace(schedule, steps=(evaluations + 1) // 2)


# -- data -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Data:
    """Windows of one data set, and the configuration of what is trained on them."""

    config: Config
    training: WindowDataset
    validation: Batch
    test: Batch


def open_data(name: str, folder: Path) -> Data:
    """Prepare once, then open; ``sample-30`` has 30 windows spread over the training period."""
    kind, _, count = name.partition("-")
    config = configuration(kind, folder / kind)
    store = workflow.prepare(config)
    spec = WindowSpec(config.window.history, config.window.frames, parse_step(config.window.step))

    def windows(split: str, count: int | None = None) -> WindowDataset:
        """All of a split, or so many, evenly spread."""
        period = Period.parse(*getattr(config.splits, split))
        found = find_windows(store.times, store.valid, spec, period)
        if count is not None:
            rows = np.linspace(0, len(found) - 1, count).round().astype(int)
            found = Windows(found.init_times[rows], found.indices[rows], 0, 0)
        return WindowDataset(store, found, spec, config.forcings)

    return Data(
        config,
        windows("training", int(count) if count else None),
        whole(windows("validation", VALIDATION_WINDOWS)),
        whole(windows("test", TEST_WINDOWS)),
    )


def whole(windows: WindowDataset) -> Batch:
    """All windows as one batch."""
    return windows.__getitems__(list(range(len(windows))))


def configuration(kind: str, folder: Path) -> Config:
    """Give the sample's own configuration, or one of the simulator, which is run if need be."""
    if kind == "sample":
        return load_config(ROOT / "configs" / "ladder.yaml", [f"output={folder}"])
    simulator, frames = BetaPlaneChannel(shape=(16, 32), step_hours=12), (3000, 200, 400)
    path = folder / "analysis.nc"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}.nc")
        simulator.simulate(sum(frames) + 40, seed=1, start="2000-01-01").to_netcdf(partial)
        partial.replace(path)
    start = np.datetime64("2000-01-01", "m")
    ends = np.cumsum([0, *[n + 10 for n in frames]])
    spans = [
        [str(start + int(a) * simulator.step), str(start + int(a + n - 1) * simulator.step)]
        for a, n in zip(ends, frames, strict=False)
    ]
    return Config.model_validate(
        {
            "output": folder,
            "data": {"source": str(path)},
            "window": {"step": "12h", "history": 2, "frames": 4},
            "splits": dict(zip(("training", "validation", "test"), spans, strict=True)),
            "forcings": [],
            "model": {"size": "tiny"},
            "training": {"batch_size": 16, "ema_decay": 0.995},
            "forecast": {"lead_time": "48h"},
        }
    )


# -- training and sampling ----------------------------------------------------------------------


def train(
    objective: Objective, data: Data, seed: int, minutes: float
) -> tuple[VideoDenoiser, list[dict[str, float]], int, float]:
    """Train for a number of processor minutes, the cosine falling with the time that is used."""
    example, options = data.training[0], data.config.training
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = VideoDenoiser(
            frames=example.target.shape[1],
            channels=example.target.shape[2],
            history=example.history.shape[1],
            forcings=example.forcings.shape[2],
            static=example.static.shape[1],
            periodic=data.training.store.grid.is_periodic,
            size=data.config.model.size,
            dropout=data.config.model.dropout,
        )
    augment = Augmentation(
        data.training,
        rotation=options.rotation,
        amplitude=options.amplitude,
        history_noise=options.history_noise,
    )
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = {k: v.detach().clone() for k, v in network.state_dict().items()}
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
    )
    curve: list[dict[str, float]] = []
    losses: list[float] = []
    used, step, budget = 0.0, 0, 60 * minutes
    network.train()
    while used < budget:
        start = time.process_time()
        generator = keyed_generator(seed, step)
        rows = torch.randint(len(data.training), (options.batch_size,), generator=generator)
        batch = augment(data.training.__getitems__(rows.tolist()), generator)
        tau = objective.draw_times(len(rows), generator)
        noise = torch.randn(batch.target.shape, generator=generator) * (batch.weights > 0)
        condition = condition_of(batch)

        def called(x: torch.Tensor, t: torch.Tensor, c: Condition = condition) -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16_is_fast()):
                return network(x, t, c).float()

        loss = objective.training_loss(called, batch.target, noise, tau, weights=batch.weights)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for group in optimizer.param_groups:
            warm = min(1.0, (step + 1) / options.warmup)
            cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, used / budget)))
            group["lr"] = options.learning_rate * warm * cosine
        optimizer.step()
        decay = min(options.ema_decay, (step + 1) / (step + 10))
        with torch.no_grad():
            for k, v in network.state_dict().items():
                average[k].lerp_(v, 1 - decay)
        used += time.process_time() - start
        losses.append(float(loss.detach()))
        step += 1
        if used >= budget * (len(curve) + 1) / VALIDATIONS:
            members = sample(averaged(network, average), objective, data.validation)
            curve.append(
                {
                    "cpu_seconds": round(used, 1),
                    "step": step,
                    "loss": float(np.mean(losses)),
                    "crps": scores(members, data.validation)["crps"],
                }
            )
            losses.clear()
    return averaged(network, average), curve, step, used


def averaged(network: VideoDenoiser, average: dict[str, torch.Tensor]) -> VideoDenoiser:
    """Give a copy with the averaged weights."""
    other = VideoDenoiser(**network.arguments)
    other.load_state_dict(average)
    return other.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]


def sample(
    network: VideoDenoiser, objective: Objective, windows: Batch, schedule: Schedule | None = None
) -> Array:
    """Draw an ensemble for each window, (number, window, frame, channel, lat, lon)."""
    chosen = replace(objective, schedule=schedule or schedule_of(objective, 8))
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16_is_fast()):
        parts = [
            sample_members(
                network, Batch(*(x[i : i + 4] for x in windows)), members=MEMBERS, seed=0,
                steps=chosen.schedule.steps, objective=chosen,
            )
            for i in range(0, len(windows.target), 4)
        ]  # fmt: skip
    return torch.cat(parts, dim=1).double().numpy()


def bits_per_dimension(
    objective: Objective, network: VideoDenoiser, data: Data
) -> dict[str, float | None]:
    """Give the exact likelihood of some test windows and, of a chain of steps, its bound."""
    windows = Batch(*(x[:LIKELIHOOD_WINDOWS] for x in data.test))
    condition, valid = condition_of(windows), windows.weights > 0
    model = objective.predictor(lambda x, t: network(x, t, condition).float() * valid)
    dimensions = int(valid[0].sum())
    times = karras_grid(12, model.path, low=0.01)[-2::-1]
    alpha = model.path.scales(torch.tensor(times[:1])).alpha
    density = flow.log_density(
        model, windows.target * alpha, probes=1, generator=keyed_generator(0),
        valid=valid[:1], times=times, sampler=flow.Heun(),
    )  # fmt: skip
    exact = flow.bits_per_dimension(density + dimensions * alpha.log(), dimensions).mean()
    found: dict[str, float | None] = {"bits_per_dim": float(exact), "bound_bits_per_dim": None}
    if objective.gaussian_path.steps is not None:
        source = keyed_generator(1)
        with torch.inference_mode():
            bound = flow.variational_bound(
                model, windows.target, steps=100, weights=valid.float(),
                variance=None if objective.variance == "learned" else 1.0,
                noise=lambda x: torch.randn(x.shape, generator=source) * valid,
            )  # fmt: skip
        found["bound_bits_per_dim"] = float(bound.total)
    return found


# -- baselines ------------------------------------------------------------------------------------


def baseline(name: str, data: Data) -> Array:
    """Draw ensembles of a baseline fitted on the training windows, as changes of the test's."""
    std = data.training.store.normalizer.tendency_std[..., None, None].astype(np.float64)
    batch = whole(data.training)

    def states(windows: Batch) -> tuple[Array, Array]:
        last = windows.history[:, -1].double().numpy()
        return last, windows.target.double().numpy() * std + last[:, None]

    last, future = states(batch)
    rng = np.random.default_rng(0)
    if name == "climatology":
        here, _ = states(data.test)
        drawn = future[rng.integers(len(future), size=(MEMBERS, len(here)))]
        return (drawn - here[None, :, None]) / std
    best: tuple[float, int] = (math.inf, 0)
    for count in (1, 2, 4, 8, 16, 32):
        if count <= max(1, len(last) // 6):
            members = linear_inverse_model(last, future, data.validation, count, std, rng)
            best = min(best, (scores(members, data.validation)["crps"], count))
    return linear_inverse_model(last, future, data.test, best[1], std, rng)


def linear_inverse_model(
    last: Array, future: Array, windows: Batch, count: int, std: Array, rng: np.random.Generator
) -> Array:
    """Regress each lead on the leading patterns of the last frame; draw its residuals.

    Penland & Sardeshmukh (1995), doi:10.1175/1520-0442(1995)008<1999:TOGOTS>2.0.CO;2, with one
    regression for each lead instead of powers of one.
    """
    flat = last.reshape(len(last), -1)
    _, _, patterns = np.linalg.svd(flat, full_matrices=False)
    known = flat @ patterns[:count].T
    answer = future.reshape(len(last), -1)
    gain = np.linalg.lstsq(known, answer, rcond=None)[0]
    residual = (answer - known @ gain) * math.sqrt(len(last) / max(1, len(last) - count))
    here = windows.history[:, -1].double().numpy()
    mean = here.reshape(len(here), -1) @ patterns[:count].T @ gain
    drawn = residual[rng.integers(len(residual), size=(MEMBERS, len(here)))]
    members = (mean + drawn).reshape(MEMBERS, len(here), *future.shape[1:])
    return (members - here[None, :, None]) / std


# -- scores ---------------------------------------------------------------------------------------


def scores(members: Array, windows: Batch) -> dict[str, float]:
    """All scores of an ensemble (number, window, frame, channel, lat, lon)."""
    fields = ("window", "frame", "channel", "latitude", "longitude")
    forecast = xr.DataArray(members, dims=("number", *fields))
    observation = xr.DataArray(windows.target.double().numpy(), dims=fields)
    weights = xr.DataArray(windows.weights.double().numpy(), dims=fields)
    one = weights[0, 0]  # cells without data are the same in all frames
    energy = energy_score(
        forecast, observation, over=one.dims, weights=one / one.sum(), estimator="fair"
    )
    error = squared_error_of_mean(forecast, observation).weighted(weights).mean()
    variance = ensemble_variance(forecast).weighted(weights).mean()

    def power(values: xr.DataArray) -> Array:
        spectrum = np.abs(np.fft.rfft(values.where(one > 0, 0))) ** 2
        return spectrum.mean(axis=(*range(spectrum.ndim - 3), -2))[:, 1:]

    truth = power(observation)
    resolved = truth > 1e-6 * truth.sum(axis=-1, keepdims=True)  # the simulator truncates
    ratio = (power(forecast) / truth)[resolved]
    return {
        "crps": float(crps_ensemble(forecast, observation).weighted(weights).mean()),
        "energy_score": float(energy.mean()),
        "spread_skill_ratio": float(np.sqrt((len(members) + 1) / len(members) * variance / error)),
        "spectrum_error": float(np.abs(np.log10(ratio)).mean()),
    }


# -- files and the table ----------------------------------------------------------------------


def read(path: Path) -> list[dict[str, Any]]:
    """Rows so far."""
    return json.loads(path.read_text()) if path.exists() else []


def append(path: Path, rows: list[dict[str, Any]]) -> None:
    """Add rows by one rename; processes that share the file wait for each other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps([*read(path), *rows], indent=1) + "\n")
        partial.replace(path)


def lines_of_code(*parts: Any) -> int:
    """Count lines that are neither blank, comment nor docstring."""
    return sum(_lines(textwrap.dedent(inspect.getsource(part))) for part in parts)


def _lines(source: str) -> int:
    tree = ast.parse(source)
    hidden = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
        and isinstance(node.body[0].value, ast.Constant)
        for line in range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)
    }
    return sum(
        bool(line.strip()) and not line.strip().startswith("#") and number not in hidden
        for number, line in enumerate(source.splitlines(), start=1)
    )


def code_of_rungs() -> dict[str, int]:
    """Lines of what each rung is made of: path, times, loss, what it predicts, and a sampler."""
    matching: list[Callable[..., Any]] = [
        flow.LinearPath.scales, flow.flow_matching_loss, flow.logit_normal_tau, stratified,
        flow.Euler, flow.integrate,
    ]  # fmt: skip
    prediction = [combine, _joined, separate]
    chain = [flow.VariancePreserving, *prediction, flow.DDIM, flow.integrate]
    bound = [getattr(flow_variational, n) for n in ("_prior", "_step", "_reconstruction")]
    return {
        "variational": lines_of_code(*chain, flow.variational_loss, *bound, lattice),
        "noise_prediction": lines_of_code(*chain, flow.denoising_loss, stratified),
        "v_prediction": lines_of_code(
            flow.CosinePath, *prediction, flow.DPMSolver, flow.integrate,
            flow.denoising_loss, stratified,
        ),
        "edm": lines_of_code(
            flow.VarianceExploding, *prediction, flow.Heun, flow.integrate, karras_grid,
            flow.denoising_loss, flow.Times.sample, stratified,
        ),
        "flow_matching": lines_of_code(*matching),
        "flow_matching_ot": lines_of_code(*matching, flow_coupling.optimal_transport),
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """Render markdown: for each data set the CRPS over evaluations, and all else at 8 of them."""
    code = code_of_rungs()
    sections: list[str] = []
    for data in dict.fromkeys(row["data"] for row in rows):
        sections.extend(_section(data, [r for r in rows if r["data"] == data], code))
    return "\n".join(sections)


def _section(data: str, rows: list[dict[str, Any]], code: dict[str, int]) -> Iterator[str]:
    seeds = len({r["seed"] for r in rows})
    minutes = next((r["cpu_minutes"] for r in rows if r["cpu_minutes"]), math.nan)
    training = f"{rows[0]['windows']} windows, {seeds} seeds, {minutes:.1f} processor minutes"
    yield f"**{data}** ({training})\n"
    columns = [f"CRPS at {e}" for e in EVALUATIONS]
    others = ["energy score", "spread/skill", "spectrum error", "bits/dim (bound)"]
    header = ["rung", *columns, *others, "steps", "steps to best", "lines"]
    yield "| " + " | ".join(header) + " |"
    yield "| --- " + "| ---: " * (len(header) - 1) + "|"
    curves = {
        rung: _mean_curve([r["curve"] for r in rows if r["rung"] == rung and r.get("curve")])
        for rung in RUNGS
    }
    best = min((curve[-1][1] for curve in curves.values() if len(curve)), default=math.nan)
    there = {r["rung"] for r in rows}
    for rung in [*sorted(there - set(RUNGS)), *[rung for rung in RUNGS if rung in there]]:
        own = [r for r in rows if r["rung"] == rung]
        if own[0]["evaluations"] is None:
            yield _row([rung, *[""] * 5, _mean(own, "crps"), _mean(own, "energy_score"),
                        _mean(own, "spread_skill_ratio"), _mean(own, "spectrum_error"),
                        *[""] * 4])  # fmt: skip
            continue
        at = {e: [r for r in own if r["evaluations"] == e] for e in EVALUATIONS}
        bits, bound = _mean(own, "bits_per_dim"), _mean(own, "bound_bits_per_dim")
        first = next((f"{step:.0f}" for step, crps in curves[rung] if crps <= best), "not")
        yield _row(
            [
                rung,
                *[_mean(at[e], "crps", interval=True) for e in EVALUATIONS],
                *[
                    _mean(at[8], k)
                    for k in ("energy_score", "spread_skill_ratio", "spectrum_error")
                ],
                f"{bits} ({bound})" if bound else bits,
                str(round(np.mean([r["training_steps"] for r in own]))),
                first,
                str(code[rung]),
            ]
        )
    yield ""


def _mean_curve(curves: list[list[dict[str, float]]]) -> Array:
    """Give steps and validation CRPS (point, 2), means over the seeds."""
    points = [[[p["step"], p["crps"]] for p in curve] for curve in curves]
    return np.mean(points, axis=0) if points else np.empty((0, 2))


def _mean(rows: list[dict[str, Any]], key: str, *, interval: bool = False) -> str:
    values = [r[key] for r in rows if r.get(key) is not None]
    if not values:
        return ""
    half = f" ± {np.ptp(values) / 2:.3f}" if interval and len(values) > 1 else ""
    return f"{np.mean(values):.3f}{half}"


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
