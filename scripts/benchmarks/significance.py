r"""False positives and power of the tests behind ``compare``, by simulation.

Series of score differences are drawn from processes whose mean is known, and tested at 5%:

- first-order autoregressions with :math:`\rho` from 0 to 0.9, which the default test must reject
  in at most 6% of all cases (the exit code is 1 if it exceeds that by three standard errors);
- other processes, reported and not judged: second-order autoregressions (with a slowly decaying
  part, and smooth), persistence hidden under white noise (which no test can see in a short series),
  a moving mean (overlapping forecasts), skewed and heavy-tailed values.

The tests are the package's three and two that are in use elsewhere: inflation by a second-order
autoregression, after Geer (2016, doi:10.3402/tellusa.v68.30229), and the percentile interval of
the package's block bootstrap with automatic block length, on fewer series. Power is that against a
shift of three true standard errors of the mean, where a test that knew the standard error and had
none to estimate would find 85%.

    OMP_NUM_THREADS=1 python scripts/benchmarks/significance.py --quick --json significance.json

The JSON is one flat object: ``false_positives_TEST_PROCESS_nN``, ``power_TEST_PROCESS_nN``, each
with its Monte Carlo standard error under the same name and ``_error``.
"""

import argparse
import json
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy
import xarray as xr
from scipy.signal import lfilter
from scipy.stats import t as student

from weatherdiff.evaluation.significance import block_bootstrap, mean_distribution

FloatArray = npt.NDArray[np.float64]
Process = Callable[[np.random.Generator, int, int], FloatArray]

ALPHA = 0.05
LIMIT = 0.06
LENGTHS = (30, 60, 200, 730)
PERSISTENCE = (0.0, 0.3, 0.5, 0.7, 0.9)
SHIFT = 3.0  # true standard errors of the mean
SEED = 1
WARM_UP = 400


def main() -> int:
    """Run, print the tables, write the JSON."""
    parser = argparse.ArgumentParser(description="False positives and power of the tests.")
    parser.add_argument("--quick", action="store_true", help="fewer series: under a minute")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    options = parser.parse_args()
    series, bootstrapped = (1000, 150) if options.quick else (8000, 800)

    started = time.process_time()
    result: dict[str, Any] = {
        "quick": options.quick,
        "series": series,
        "bootstrapped_series": bootstrapped,
        "nominal": ALPHA,
        "shift_in_standard_errors": SHIFT,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }
    exceeded = []
    for name, process in processes().items():
        for n in LENGTHS:
            x = process(np.random.default_rng([SEED, n]), series, n)
            error = standard_error(process, n)
            for test, p_values in tests(bootstrapped).items():
                for what, values in (("false_positives", x), ("power", x + SHIFT * error)):
                    rejected = p_values(values) < ALPHA
                    key, rate = f"{what}_{test}_{name}_n{n}", float(rejected.mean())
                    result[key] = rate
                    result[f"{key}_error"] = float(rejected.std() / np.sqrt(rejected.size))
            rate = result[f"false_positives_adaptive_{name}_n{n}"]
            chance = 3 * np.sqrt(LIMIT * (1 - LIMIT) / series)
            if name.startswith("rho") and rate > LIMIT + chance:
                exceeded.append(f"{name}, n={n}: {rate:.3f}")
    result["largest_false_positives_adaptive_autoregression"] = max(
        result[f"false_positives_adaptive_rho{rho:g}_n{n}"] for rho in PERSISTENCE for n in LENGTHS
    )
    result["processor_seconds"] = round(time.process_time() - started, 1)

    for what in ("false_positives", "power"):
        print(table(result, what), end="\n\n")
    print(f"{series} series, {bootstrapped} bootstrapped; {result['processor_seconds']} s")
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    if exceeded:
        print(f"more false positives than {LIMIT:.0%}: {'; '.join(exceeded)}")
    return 1 if exceeded else 0


def processes() -> dict[str, Process]:
    """Series of mean zero, (series, n), by name."""
    found: dict[str, Process] = {f"rho{rho:g}": autoregression(rho) for rho in PERSISTENCE}
    return found | {
        "second_order": lambda rng, reps, n: filtered(rng, reps, n, [1], [1, -0.5, -0.3]),
        "smooth": lambda rng, reps, n: filtered(rng, reps, n, [1], [1, -1.2, 0.4]),
        "hidden": hidden(0.9, 0.3),
        "moving_mean": lambda rng, reps, n: filtered(rng, reps, n, np.ones(5), [1]),
        "skewed": lambda rng, reps, n: np.exp(autoregression(0.7)(rng, reps, n)) - np.exp(0.5),
        "heavy_tailed": lambda rng, reps, n: lfilter(
            [1], [1, -0.5], rng.standard_t(4, size=(reps, n + WARM_UP)), axis=1
        )[:, WARM_UP:],
    }


def autoregression(rho: float) -> Process:
    """First-order autoregression of unit variance."""

    def draw(rng: np.random.Generator, reps: int, n: int) -> FloatArray:
        return filtered(rng, reps, n, [np.sqrt(1 - rho**2)], [1, -rho])

    return draw


def hidden(rho: float, share: float) -> Process:
    """Autoregression with white noise that has most of the variance."""

    def draw(rng: np.random.Generator, reps: int, n: int) -> FloatArray:
        signal = autoregression(rho)(rng, reps, n)
        return np.sqrt(share) * signal + np.sqrt(1 - share) * rng.standard_normal((reps, n))

    return draw


def filtered(rng: np.random.Generator, reps: int, n: int, b: Any, a: Any) -> FloatArray:
    """White noise through a linear filter, from its stationary state."""
    return lfilter(b, a, rng.standard_normal((reps, n + WARM_UP)), axis=1)[:, WARM_UP:]


def standard_error(process: Process, n: int) -> float:
    """Give the true standard error of the mean of n values, from many series of their own."""
    return float(process(np.random.default_rng([SEED, n, 1]), 4000, n).mean(axis=1).std())


def tests(bootstrapped: int) -> dict[str, Callable[[FloatArray], FloatArray]]:
    """Tests by name: p-values of the hypothesis that the means of series are zero."""
    return {
        **{test: package_test(test) for test in ("adaptive", "ewc", "independent")},
        "second_order_inflation": inflated,
        "block_bootstrap": lambda x: bootstrap(x[:bootstrapped]),
    }


def package_test(test: str) -> Callable[[FloatArray], FloatArray]:
    """One of the tests that ``compare`` offers."""

    def p_values(x: FloatArray) -> FloatArray:
        found = []
        for part in np.array_split(x, max(1, len(x) // 1000)):
            mean = part.mean(axis=1)
            found.append(mean_distribution(part - mean[:, np.newaxis], test=test).p_value(mean))
        return np.concatenate(found)

    return p_values


def inflated(x: FloatArray) -> FloatArray:
    """T-test with the long-run variance of a second-order autoregression (Yule-Walker)."""
    n = x.shape[1]
    mean = x.mean(axis=1)
    u = x - mean[:, np.newaxis]
    variance, one, two = ((u[:, : n - k] * u[:, k:]).sum(axis=1) / n for k in range(3))
    r1, r2 = one / variance, two / variance
    a = r1 * (1 - r2) / (1 - r1**2)
    b = (r2 - r1**2) / (1 - r1**2)
    long_run = variance * n / (n - 1) * (1 - a * r1 - b * r2) / (1 - a - b) ** 2
    return 2 * student.sf(np.abs(mean) / np.sqrt(long_run / n), n - 1)


def bootstrap(x: FloatArray) -> FloatArray:
    """Zero where the 95% percentile interval leaves out zero, else one."""
    n = x.shape[1]
    dims = ("variable", "init_time")
    statistics = xr.Dataset(
        {"sum_x": (dims, x), "sum_weight": ("init_time", np.ones(n))},
        {"init_time": np.arange(n).astype("datetime64[D]").astype("datetime64[ns]")},
    )
    found = block_bootstrap(
        statistics, lambda sums: sums["sum_x"] / sums["sum_weight"], seed=SEED, replicates=400
    )
    return np.where((found["lower"] > 0) | (found["upper"] < 0), 0.0, 1.0)


def table(result: dict[str, Any], what: str) -> str:
    """Rates of one kind, one line a process and length."""
    names = list(tests(1))
    lines = [what.replace("_", " ") + " at a nominal 5%"]
    lines.append(f"{'process':14}{'n':>5}" + "".join(f"{name:>24}" for name in names))
    for process in processes():
        for n in LENGTHS:
            rates = (
                f"{result[key]:.3f} +- {result[f'{key}_error']:.3f}"
                for key in (f"{what}_{name}_{process}_n{n}" for name in names)
            )
            lines.append(f"{process:14}{n:>5}" + "".join(f"{rate:>24}" for rate in rates))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
