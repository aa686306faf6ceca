"""What a sampler costs beyond the calls of its network, as a share of the time that those take.

For every sampler with the rung of the ladder that it suits, at the ``small`` size on the grid of
the embedded sample: samples are drawn with a network that gives a constant, and the time of an
evaluation is set in proportion to that of the real network's. Processor time, in turns, medians.

    OMP_NUM_THREADS=1 python scripts/benchmarks/sampler.py --json FILE
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from weatherdiff.flow import RUNGS, NoiseStream, Schedule
from weatherdiff.models import Condition, VideoDenoiser

LIMIT = 0.03
GRID = (22, 28)
FRAMES, HISTORY, CHANNELS, FORCINGS, STATIC = 8, 9, 4, 5, 2
SCHEDULES = {
    "flow_matching": [Schedule("euler", 32), Schedule("midpoint", 16), Schedule("heun", 16)],
    "noise_prediction": [Schedule("ddim", 32)],
    "v_prediction": [Schedule("dpm++2m", 32)],
    "edm": [Schedule("heun", 16, "karras"), Schedule("churn", 16, "karras")],
    "variational": [Schedule("ancestral", 32)],
}


def processor_time(work: Callable[[], object], repeats: int) -> float:
    """Mean seconds of one call."""
    start = time.process_time()
    for _ in range(repeats):
        work()
    return (time.process_time() - start) / repeats


def overheads(members: int, rounds: int) -> list[dict[str, object]]:
    """One row for each rung and sampler."""

    def field(*channels: int) -> Tensor:
        return torch.randn(members, *channels, *GRID)

    network = VideoDenoiser(
        frames=FRAMES, channels=CHANNELS, history=HISTORY, forcings=FORCINGS, static=STATIC,
        size="small",
    ).eval()  # fmt: skip
    condition = Condition(
        field(HISTORY, CHANNELS), field(HISTORY + FRAMES, FORCINGS), field(STATIC)
    )
    noise, tau = field(FRAMES, CHANNELS), torch.full((members,), 0.5)
    constant = 0.1 * noise
    rows = []
    with torch.inference_mode():
        for rung, schedules in SCHEDULES.items():
            for schedule in schedules:
                objective = replace(RUNGS[rung], schedule=schedule)
                model = objective.predictor(lambda x, tau: constant)
                fresh = NoiseStream(seed=0, init_time=0, numbers=list(range(members)))

                def draw(objective=objective, model=model, fresh=fresh):  # type: ignore[no-untyped-def]
                    return objective.sample(model, noise, fresh=fresh)

                draw(), network(noise, tau, condition)
                pairs = [
                    (
                        processor_time(draw, 4) / schedule.evaluations,
                        processor_time(lambda: network(noise, tau, condition), 4),
                    )
                    for _ in range(rounds)
                ]
                share = statistics.median(ours / theirs for ours, theirs in pairs)
                milliseconds = 1e3 * statistics.median(theirs for _, theirs in pairs)
                rows.append(
                    {
                        "rung": rung,
                        "sampler": schedule.sampler,
                        "network_ms": round(milliseconds, 2),
                        "overhead_percent": round(100 * share, 2),
                    }
                )
                print(f"{rung:18}{schedule.sampler:12}{100 * share:6.2f}% of {milliseconds:.1f} ms")
    return rows


def main() -> int:
    """Print the table; exit code 1 if a sampler is above the limit."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=4, help="in one call of the network")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="where to write the rows")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = overheads(arguments.members, arguments.rounds)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")
    return int(any(row["overhead_percent"] > 100 * LIMIT for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
