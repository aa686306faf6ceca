"""What staging, hashing and verifying cost beside the forecast itself, on the demo.

For a dozen initial times of the demo its members are drawn once and kept. They are then given out
to two writers in turns: one that puts the same arrays straight under their final names, and
``make_forecast``, which stages, hashes, verifies, forces to the disk and renames. The overhead is
what the second takes longer, as a share of drawing and plain writing. With it, what a reader pays
who has every byte hashed once more (``weatherdiff verify``).

Processor time, medians, and the time of the clock, which has the waits for the disk.

    scripts/demo && OMP_NUM_THREADS=1 python scripts/benchmarks/overhead.py --json FILE
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from weatherdiff.config import load_config
from weatherdiff.forecasting.arrays import create_fields, finish, put_block
from weatherdiff.forecasting.writer import forecast_name, verify_forecast
from weatherdiff.workflow.making import make_forecast
from weatherdiff.workflow.sampling import Sampler

LIMIT = 0.10

Seconds = tuple[float, float]


def timed(work: Callable[[], object]) -> Seconds:
    """Processor and clock."""
    start = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - start[0], time.perf_counter() - start[1]


class Kept(Sampler):
    """Gives out members that were drawn before."""

    drawn: dict[range, list[xr.Dataset]]
    read: xr.Dataset

    def draw(self, init_time: np.datetime64, units: list[range]) -> None:
        """Draw them."""
        history = self.read = super().history(init_time)
        self.drawn = {
            unit: list(super(Kept, self).blocks(init_time, unit, history)) for unit in units
        }

    def history(self, init_time: np.datetime64) -> xr.Dataset:
        """Give what they were drawn from."""
        return self.read

    def blocks(self, init_time: Any, numbers: Any = None, *_: Any, **__: Any) -> Any:
        """Give them out."""
        return iter(self.drawn[numbers])


def write_plainly(sampler: Kept, init_time: np.datetime64, folder: Path) -> None:
    """Write the members where they are to be, as they come."""
    example = sampler.example(init_time)
    group = create_fields(
        folder / forecast_name(init_time), example, frames=sampler.frames, block=sampler.block
    )
    for numbers, blocks in sampler.drawn.items():
        done = 0
        for block in blocks:
            frames = slice(done, done + block.sizes["lead_time"])
            put_block(group, block, frames=frames, members=slice(numbers.start, numbers.stop))
            done = frames.stop
    finish(group, example, lead_times=sampler.lead_times, attributes=sampler.attributes)


def measure(model: Path, work: Path, count: int) -> dict[str, Any]:
    """Time each of the three for so many initial times."""
    with as_file(files("weatherdiff") / "data" / "sample" / "demo.yaml") as demo:
        config = load_config(demo, [f"output={work / 'run'}"])
    shutil.copytree(model, config.model_folder)
    config.forecasts.mkdir(parents=True)
    sampler = Kept(config)
    times = sampler.analyses.sel(time=slice(*config.splits.test))["time"].values
    size, members = sampler.block[1], config.forecast.members
    units = [range(a, min(a + size, members)) for a in range(0, members, size)]
    took: dict[str, list[Seconds]] = {"draw": [], "plain": [], "ours": [], "verify": []}
    for place in np.linspace(0, len(times) - 1, count + 1).astype(int):
        init = times[place]
        took["draw"].append(timed(lambda init=init: sampler.draw(init, units)))
        turns = {
            "plain": lambda init=init: write_plainly(sampler, init, work / "plain"),
            "ours": lambda init=init: make_forecast(sampler, init),
        }
        for name in sorted(turns, reverse=bool(place % 2)):
            took[name].append(timed(turns[name]))
        path = config.forecasts / forecast_name(init)
        took["verify"].append(timed(lambda path=path: verify_forecast(path)))
    bytes_ = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    result: dict[str, Any] = {"init_times": count, "members": members, "bytes": bytes_}
    for which, clock in enumerate(("processor", "clock")):
        # The first of all warms up.
        median = {
            name: statistics.median(pair[which] for pair in pairs[1:])
            for name, pairs in took.items()
        }
        extra = statistics.median(
            ours[which] - plain[which]
            for ours, plain in zip(took["ours"][1:], took["plain"][1:], strict=True)
        )
        own = median["draw"] + median["plain"]
        result[clock] = {
            **{f"{name}_seconds": round(value, 4) for name, value in median.items()},
            "overhead": round(extra / own, 4),
            "verify": round(median["verify"] / own, 4),
        }
    return result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("runs/demo/model"))
    parser.add_argument("--init-times", type=int, default=12)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        result = measure(options.model, Path(work), options.init_times)
    for clock in ("processor", "clock"):
        row = result[clock]
        print(
            f"{clock:9}  draw {row['draw_seconds']:.3f} s  write {row['plain_seconds']:.3f} s  "
            f"overhead {row['overhead']:.1%} (limit {LIMIT:.0%})  verify {row['verify']:.1%}"
        )
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
