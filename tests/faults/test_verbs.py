"""prepare, train and evaluate, killed, stopped and without room: whole output or none, and again.

What readers see is what an unhurt run makes, or what was there before, or nothing; and the next run
ends with the bytes of the unhurt one.
"""

from __future__ import annotations

import csv
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from weatherdiff.data.store import FieldStore
from weatherdiff.evaluation import open_scores
from weatherdiff.models.folder import load_model
from weatherdiff.training.checkpoint import SafeCheckpointIO

READ = {"prepare": FieldStore.open, "train": load_model, "evaluate": open_scores}
#: Puts something else in the place of what is there.
AGAIN = {
    "prepare": ["--overwrite"],
    "train": ["--overwrite"],
    "evaluate": ["--set", "evaluation.baselines=[climatology]"],
}


@pytest.fixture(scope="module", autouse=True)
def _loaded(runs: Any) -> None:
    runs.load("weatherdiff.training.fit", "weatherdiff.workflow.training", "weatherdiff.scoring")
    runs.load("s3fs")  # which Lightning imports, where it is, to find that a folder is none of it


def check_whole(workshop: Any, verb: str, here: Any) -> None:
    READ[verb](workshop.output(verb, here))
    assert workshop.made(verb, here) == workshop.made(verb, workshop.whole(verb))


def check_whole_or_absent(workshop: Any, verb: str, here: Any) -> bool:
    """Require that what is there is whole; tell whether it is there."""
    there = workshop.output(verb, here).exists()
    if there:
        check_whole(workshop, verb, here)
    return there


def check_done(workshop: Any, verb: str, here: Any) -> None:
    check_whole(workshop, verb, here)
    left = [p for p in here.folder.rglob(".*") if p.suffix in (".partial", ".former", ".parts")]
    assert [p for p in left if "seconds" not in p.name and "summary" not in p.name] == []


def losses(output: Path) -> dict[int, tuple[str, str]]:
    """What was logged of each step: the last word on it."""
    found: dict[int, tuple[str, str]] = {}
    for file in sorted(output.glob("run/training/*/logs/*/metrics.csv")):
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                known = found.get(int(row["step"]), ("", ""))
                new = (row.get("loss") or "", row.get("val_crps") or "")
                found[int(row["step"])] = (new[0] or known[0], new[1] or known[1])
    return {step: facts for step, facts in sorted(found.items()) if any(facts)}


@pytest.mark.attempts("seed", 2, 20)
@pytest.mark.parametrize("verb", ["prepare", "evaluate"])
def test_a_verb_killed_anywhere_shows_nothing_partial_and_ends_the_same(
    runs: Callable, workshop: Any, tmp_path: Path, verb: str, seed: int
) -> None:
    workshop.whole(verb)
    here = workshop.due(verb, tmp_path / "site")
    place = random.Random(seed).randint(1, len(workshop.points[verb]))  # noqa: S311
    assert runs(verb, here.config, kill=place)[0] == -signal.SIGKILL
    check_whole_or_absent(workshop, verb, here)
    code, text = runs(verb, here.config)
    assert code == 0, text
    check_done(workshop, verb, here)


@pytest.mark.attempts("seed", 3, 50)
def test_of_a_checkpoint_that_was_being_saved_the_last_good_one_loads(
    runs: Callable, workshop: Any, tmp_path: Path, seed: int
) -> None:
    whole = workshop.whole("train")
    here = workshop.due("train", tmp_path / "site")
    saving = [n for n, name in enumerate(workshop.points["train"], 1) if name != "forward"]
    if seed < 3:  # early, in the middle and late, whatever the numbers drawn
        saving = saving[len(saving) * seed // 3 : len(saving) * (seed + 1) // 3]
    place = random.Random(seed).choice(saving)  # noqa: S311
    assert runs("train", here.config, kill=place)[0] == -signal.SIGKILL
    for checkpoint in here.folder.glob("run/training/*/*.ckpt"):
        assert SafeCheckpointIO().load_checkpoint(checkpoint)["global_step"] in (5, 10, 12)
    if not check_whole_or_absent(workshop, "train", here):
        code, text = runs("train", here.config)
        assert code == 0, text
        check_done(workshop, "train", here)
    assert losses(here.folder) == losses(whole.folder)


@pytest.mark.attempts("seed", 1, 10)
@pytest.mark.parametrize("verb", ["prepare", "train", "evaluate"])
def test_a_verb_that_is_terminated_exits_with_143_and_is_gone_on_with(
    runs: Callable, workshop: Any, tmp_path: Path, verb: str, seed: int
) -> None:
    whole = workshop.whole(verb)
    here = workshop.due(verb, tmp_path / "site")
    place = random.Random(100 + seed).randint(1, len(workshop.points[verb]))  # noqa: S311
    code, text = runs(verb, here.config, kill=place, signal=int(signal.SIGTERM))
    assert code == 143, text
    assert "terminated" in text
    assert not list(here.folder.glob("run/.*.partial"))
    if not check_whole_or_absent(workshop, verb, here):
        code, text = runs(verb, here.config)
        assert code == 0, text
        check_done(workshop, verb, here)
    if verb == "train":
        assert losses(here.folder) == losses(whole.folder)


def check_full(workshop: Any, verb: str, here: Any, code: int, text: str) -> None:
    assert code == 74, text
    assert "No space left" in text.splitlines()[-1]
    check_whole(workshop, verb, here)


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


@pytest.mark.parametrize(
    "tenth", [5, *(pytest.param(n, marks=pytest.mark.deep) for n in range(10))]
)
@pytest.mark.parametrize("verb", ["prepare", "train", "evaluate"])
def test_without_room_a_verb_exits_with_74_and_what_was_there_stays(
    runs: Callable, workshop: Any, tmp_path: Path, verb: str, tenth: int
) -> None:
    here = workshop.due(verb, tmp_path / "site", again=True)
    room = size(workshop.output(verb, here)) * (9 - tenth) // 10
    check_full(workshop, verb, here, *runs(verb, here.config, *AGAIN[verb], room=room))
    code, text = runs(verb, here.config, *AGAIN[verb])
    assert code == 0, text
    READ[verb](workshop.output(verb, here))


@pytest.mark.deep
@pytest.mark.parametrize("tenth", range(0, 10, 3))
@pytest.mark.parametrize("verb", ["prepare", "train", "evaluate"])
def test_on_a_small_file_system_that_is_full_what_was_there_stays(
    runs: Callable, workshop: Any, small_disk: Callable[[int], Path], verb: str, tenth: int
) -> None:
    disk = small_disk(16 * 1024)
    here = workshop.due(verb, disk / "site", again=True)
    free = size(workshop.output(verb, here)) * tenth // 10
    left = shutil.disk_usage(disk).free
    (disk / "filler").write_bytes(b"x" * max(0, left - free))
    check_full(workshop, verb, here, *runs(verb, here.config, *AGAIN[verb]))
    (disk / "filler").unlink()
    code, text = runs(verb, here.config, *AGAIN[verb])
    assert code == 0, text
    READ[verb](workshop.output(verb, here))
