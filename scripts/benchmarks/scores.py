"""Speed and memory of the scores, beside those of the libraries an analyst could take instead.

One thread, processor time, medians of rounds in which ours and the peers take turns: on a busy
machine only the ratios mean anything. A peer counts if its values are ours; one that is absent,
fails or is wrong gives null. Arrays are member-first, as forecasts are stored; peers may work in
place or copy to the layout they prefer. properscoring and xskillscore know the standard CRPS only,
and are compared with it.

    python scripts/benchmarks/scores.py [--quick] --json results.json
"""

# ruff: noqa: E402

import os
import sys

# Before numpy is imported; and this file must not be taken for the package of its name.
sys.path[:] = [path for path in sys.path if path != os.path.dirname(os.path.abspath(__file__))]
for _name in ("OMP", "OPENBLAS", "MKL", "NUMBA", "NUMEXPR"):
    os.environ[f"{_name}_NUM_THREADS"] = "1"
for _name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(_name, None)

import argparse
import json
import platform
import statistics
import subprocess
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from weatherdiff.evaluation.kernels import Events, Wanted, ensemble_sums
from weatherdiff.evaluation.ranks import rank_histogram
from weatherdiff.evaluation.scores import crps_ensemble

PEERS = ("scoringrules", "xskillscore", "scores", "properscoring")
BOUNDS = {
    "crps_speedup_M10": (">=", 10),
    "crps_speedup_M50": (">=", 6),
    "crps_speedup_M200": (">=", 4),
    "crps_extra_memory": ("<=", 0.1),
    "one_pass_over_read_M50": ("<=", 15),
    "out_of_core_over_decode": ("<=", 1.5),
    "memory_growth_16x": ("<=", 1.1),
    "rank_histogram_speedup": (">=", 10),
    "energy_score_speedup": (">=", 5),
    "numpy_crps_speedup_M50": (">=", 1.5),
    "plan_seconds": ("<=", 1),
}
SEED = 1
OURS = (
    *("ours", "numpy", "tiled_numpy_sort", "default", "with_threshold_weighted", "crps_alone"),
    *("read_sum", "read_einsum"),
)
"""Names of what is no peer."""

Array = npt.NDArray[Any]
Result = dict[str, Any]


class Case:
    """A synthetic ensemble, float32, and its observation.

    Parameters
    ----------
    members, points : int
        Size; points are laid out in rows of 128.
    """

    def __init__(self, members: int, points: int) -> None:
        rng = np.random.default_rng(SEED)
        shape = (points // 128, 128)
        self.members, self.points = members, points
        self.x = rng.standard_normal((members, *shape), dtype=np.float32)
        self.y = rng.standard_normal(shape, dtype=np.float32)
        self.forecast = xr.DataArray(self.x, dims=("number", "latitude", "longitude"))
        self.observation = xr.DataArray(self.y, dims=("latitude", "longitude"))


def main() -> None:
    """Measure, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description="Benchmark of the scores beside their peers.")
    parser.add_argument("--quick", action="store_true", help="less data, under a minute")
    parser.add_argument("--json", type=Path, required=True, help="file to write")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    scale, rounds = (1, 5) if arguments.quick else (2, 9)

    results: Result = dict.fromkeys(BOUNDS)
    for peer in PEERS:
        results[f"peer_{peer}"] = _version(peer)
    results |= {"quick": arguments.quick, "machine": platform.machine(), "numpy": np.__version__}
    results["numba"] = _version("numba")
    for members, points in ((10, 2**19), (50, 2**17), (200, 2**15)):
        results |= crps_speed(Case(members, scale * points), rounds)
    results |= crps_memory(Case(50, scale * 2**16))
    results |= one_pass(Case(50, scale * 2**16), rounds)
    results |= rank_histogram_speed(Case(50, scale * 2**17), rounds)
    results |= energy_score_speed(8 * scale, rounds)
    results |= out_of_core(arguments.quick)
    _print(results)
    arguments.json.write_text(json.dumps(results, indent=2) + "\n")


def crps_speed(case: Case, rounds: int) -> Result:
    """Fair CRPS: ours, compiled and in numpy, against every peer, member-first."""
    ours = {
        estimator: crps_ensemble(case.forecast, case.observation, estimator=estimator).values
        for estimator in ("fair", "standard")
    }
    candidates = {
        "ours": (lambda: crps_ensemble(case.forecast, case.observation).values, ours["fair"]),
        "numpy": (lambda: _in_numpy(case), ours["fair"]),
        "tiled_numpy_sort": (lambda: _tiled_sort(case.x, case.y), ours["fair"]),
    }
    for name, run, estimator in _crps_peers(case):
        candidates[name] = (run, ours[estimator])
    seconds = _take_turns(candidates, rounds)
    nanoseconds = _per_point(seconds, case.points)
    size = f"M{case.members}"
    result: Result = {f"crps_speedup_{size}": _speedup(seconds, "ours")}
    if case.members == 50:
        result[f"numpy_crps_speedup_{size}"] = _speedup(seconds, "numpy")
    return result | {f"crps_ns_{size}_{name}": value for name, value in nanoseconds.items()}


def _crps_peers(case: Case) -> Iterator[tuple[str, Callable[[], Array], str]]:
    """Yield each peer's name and variant, its call, and the estimator it computes."""
    x, y = case.x, case.y
    ways: dict[str, Callable[[], tuple[Array, int]]] = {
        "in_place": lambda: (x, 0),
        "copied": lambda: (np.ascontiguousarray(np.moveaxis(x, 0, -1)), -1),
    }
    with _peer():
        import scoringrules

        # Its numpy takes all pairs: minutes for many members, and never the fastest.
        for backend in ("numba", "numpy") if case.members < 100 else ("numba",):
            for way, laid_out in ways.items():

                def rules(
                    laid_out: Callable[[], tuple[Array, int]] = laid_out, name: str = backend
                ) -> Array:
                    values, axis = laid_out()
                    return scoringrules.crps_ensemble(
                        y, values, m_axis=axis, estimator="fair", backend=name
                    )

                yield f"scoringrules_{backend}_{way}", rules, "fair"
    with _peer():
        import properscoring

        for way, laid_out in ways.items():

            def proper(laid_out: Callable[[], tuple[Array, int]] = laid_out) -> Array:
                values, axis = laid_out()
                return properscoring.crps_ensemble(y, values, axis=axis)

            yield f"properscoring_{way}", proper, "standard"
    with _peer():
        from scores.probability import crps_for_ensemble

        for method, estimator in (("fair", "fair"), ("ecdf", "standard")):

            def nci(method: str = method) -> Array:
                return crps_for_ensemble(
                    case.forecast, case.observation, "number", method=method, preserve_dims="all"
                ).values

            yield f"scores_{method}", nci, estimator
    with _peer():
        import xskillscore

        yield (
            "xskillscore",
            lambda: (
                xskillscore.crps_ensemble(
                    case.observation, case.forecast, member_dim="number", dim=[]
                ).values
            ),
            "standard",
        )


def _in_numpy(case: Case) -> Array:
    before = os.environ.get("WEATHERDIFF_NUMBA")
    os.environ["WEATHERDIFF_NUMBA"] = "0"
    try:
        return crps_ensemble(case.forecast, case.observation).values
    finally:
        del os.environ["WEATHERDIFF_NUMBA"]
        if before is not None:
            os.environ["WEATHERDIFF_NUMBA"] = before


def _tiled_sort(x: Array, y: Array, tile: int = 256) -> Array:
    """Compute what a good hand-written numpy would: a reference, not a bar."""
    members = len(x)
    flat, truth = x.reshape(members, -1), y.reshape(-1)
    lift = (2.0 * np.arange(members) - members + 1) / (members * (members - 1))
    result = np.empty(truth.shape)
    for start in range(0, len(truth), tile):
        part = slice(start, start + tile)
        d = np.ascontiguousarray((flat[:, part] - truth[part]).T)
        d.sort(axis=1)
        result[part] = np.abs(d).mean(axis=1, dtype=np.float64) - d @ lift
    return result.reshape(y.shape)


def crps_memory(case: Case) -> Result:
    """Most memory that the CRPS holds beside its input, result included, over the input.

    The members are the first, the middle and the last axis in turn; the largest counts.
    """
    layouts = [
        case.forecast,
        case.forecast.transpose("latitude", "number", "longitude").copy(),
        case.forecast.transpose("latitude", "longitude", "number").copy(),
    ]
    shares = []
    for forecast in layouts:
        tracemalloc.start()
        crps_ensemble(forecast, case.observation).load()
        shares.append(tracemalloc.get_traced_memory()[1] / forecast.nbytes)
        tracemalloc.stop()
    return {"crps_extra_memory": max(shares)}


def one_pass(case: Case, rounds: int) -> Result:
    """Compute the default statistics in one pass, over numpy's fastest sum of the array."""
    x, y = case.x.reshape(case.members, -1), case.y.reshape(-1)
    weights = np.random.default_rng(SEED).random((1, case.points))
    events = Events(np.array([[1.0], [-0.5]]), np.array([True, False]))
    brier_only = Wanted(clipped=False)
    seconds = _take_turns(
        {
            "read_sum": (lambda: x.sum(), None),
            "read_einsum": (lambda: np.einsum("i->", x.reshape(-1)), None),
            "default": (
                lambda: ensemble_sums(x, y, weights, events=events, wanted=brier_only).totals,
                None,
            ),
            "with_threshold_weighted": (
                lambda: ensemble_sums(x, y, weights, events=events).totals,
                None,
            ),
            "crps_alone": (
                lambda: ensemble_sums(x, y, weights, wanted=Wanted(rank=False)).totals,
                None,
            ),
        },
        rounds + 4,
    )
    read = min(seconds["read_sum"], seconds["read_einsum"])
    nanoseconds = _per_point(seconds, case.points)
    return {"one_pass_over_read_M50": seconds["default"] / read} | {
        f"one_pass_ns_M50_{name}": value for name, value in nanoseconds.items()
    }


def rank_histogram_speed(case: Case, rounds: int) -> Result:
    """Rank histogram over all points, with ties, against every peer."""

    def run() -> Array:
        return rank_histogram(case.forecast, case.observation).values

    counts = run()
    candidates = {"ours": (run, counts)}
    with _peer():
        import xskillscore

        candidates["xskillscore"] = (
            lambda: (
                xskillscore.rank_histogram(
                    case.observation,
                    case.forecast,
                    dim=["latitude", "longitude"],
                    member_dim="number",
                ).values
            ),
            counts,
        )
    with _peer():
        from scores.probability import rank_histogram as of_scores

        candidates["scores"] = (
            lambda: case.points * of_scores(case.forecast, case.observation, "number").values,
            counts,
        )
    seconds = _take_turns(candidates, rounds)
    return {"rank_histogram_speedup": _speedup(seconds, "ours")} | {
        f"rank_histogram_ns_M50_{name}": value
        for name, value in _per_point(seconds, case.points).items()
    }


def energy_score_speed(cases: int, rounds: int) -> Result:
    """Fair energy score of fields by 50 members, large and small, against every peer."""
    large = _energy_seconds(cases, (64, 128), rounds)
    small = _energy_seconds(4 * cases, (16, 32), rounds)
    return {
        "energy_score_speedup": _speedup(large, "ours"),
        "energy_score_speedup_small": _speedup(small, "ours"),
        **{f"energy_score_us_{name}": value and value * 1e6 for name, value in large.items()},
        **{f"energy_score_us_small_{name}": value and value * 1e6 for name, value in small.items()},
    }


def _energy_seconds(cases: int, shape: tuple[int, int], rounds: int) -> dict[str, float | None]:
    """Seconds a case."""
    from weatherdiff.evaluation.multivariate import energy_score

    rng = np.random.default_rng(SEED)
    x = rng.standard_normal((cases, 50, *shape), dtype=np.float32)
    y = rng.standard_normal((cases, *shape), dtype=np.float32)
    forecast = xr.DataArray(x, dims=("time", "number", "latitude", "longitude"))
    observation = xr.DataArray(y, dims=("time", "latitude", "longitude"))
    weights = xr.DataArray(np.ones(shape), dims=("latitude", "longitude"))
    x, y = x.reshape(cases, 50, -1), y.reshape(cases, -1)
    exact = np.array([_energy_by_definition(*case) for case in zip(x, y, strict=True)])
    candidates: dict[str, tuple[Callable[[], Any], Array | None]] = {
        # Ours is of a mean over the cells, theirs of a sum.
        "ours": (
            lambda: energy_score(forecast, observation, weights=weights).values,
            exact / np.sqrt(y.shape[1]),
        )
    }
    with _peer():
        import scoringrules

        for backend in ("numba", "numpy"):

            def rules(name: str = backend) -> Array:
                return scoringrules.energy_score(
                    y, x, m_axis=1, v_axis=-1, estimator="fair", backend=name
                )

            candidates[f"scoringrules_{backend}"] = (rules, exact)
    seconds = _take_turns(candidates, rounds)
    return {name: value and value / cases for name, value in seconds.items()}


def _energy_by_definition(x: Array, y: Array) -> float:
    x, y = x.astype(np.float64), y.astype(np.float64)
    apart = sum(np.sqrt(((x - member) ** 2).sum(axis=-1)).sum() for member in x)
    distance = np.sqrt(((x - y) ** 2).sum(axis=-1)).mean()
    return float(distance - apart / (2 * len(x) * (len(x) - 1)))


def out_of_core(quick: bool) -> Result:
    """Evaluate stored forecasts in a process of its own: time, memory, planning."""
    script = Path(__file__).with_name("out_of_core.py")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "results.json")
        command = [sys.executable, str(script), "--json", str(path), *["--quick"] * quick]
        subprocess.run(command, check=True)
        return dict(json.loads(path.read_text()))


@contextmanager
def _peer() -> Iterator[None]:
    """Pass over a peer that cannot be imported."""
    try:
        yield
    except ImportError as error:
        print(f"absent: {error}")


def _take_turns(
    candidates: dict[str, tuple[Callable[[], Any], Array | None]], rounds: int
) -> dict[str, float | None]:
    """Median processor seconds of each; None for one that fails or whose values are wrong.

    Peers far behind the first are timed once only: they change no ratio.
    """
    spent: dict[str, list[float]] = {}
    for name, (run, expected) in candidates.items():
        try:
            if name in OURS or "numba" in name or "properscoring" in name:
                run()  # compiles
            start = time.process_time()
            values = run()
            spent[name] = [time.process_time() - start]
            if expected is not None:
                scale = np.abs(expected).max()
                np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-4 * scale)
        except Exception as error:  # a peer may fail in any way; the table says so
            print(f"{name} does not count: {type(error).__name__}: {str(error).strip()[:300]}")
            spent.pop(name, None)
            if name in OURS:
                raise
    near = 5 * min((seconds[0] for name, seconds in spent.items() if name not in OURS), default=0)
    for _ in range(rounds):
        for name, seconds in spent.items():
            if name in OURS or seconds[0] < near:
                start = time.process_time()
                candidates[name][0]()
                seconds.append(time.process_time() - start)
    return {
        name: statistics.median(spent[name][1:] or spent[name]) if name in spent else None
        for name in candidates
    }


def _speedup(seconds: dict[str, float | None], ours: str) -> float | None:
    """Seconds of the fastest peer over ours; None without a peer."""
    peers = [value for name, value in seconds.items() if name not in OURS and value is not None]
    mine = seconds[ours]
    return min(peers) / mine if peers and mine else None


def _per_point(seconds: dict[str, float | None], points: int) -> dict[str, float | None]:
    return {
        name: None if value is None else value * 1e9 / points for name, value in seconds.items()
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _print(results: Result) -> None:
    for name, value in results.items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        if name in BOUNDS:
            sign, bound = BOUNDS[name]
            met = value is not None and (value >= bound if sign == ">=" else value <= bound)
            text = f"{text:12} {sign} {bound:<5} {'met' if met else 'NOT MET'}"
        print(f"{name:40} {text}")


if __name__ == "__main__":
    main()
