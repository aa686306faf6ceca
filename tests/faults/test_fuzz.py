"""Row 17 of the faults: whatever bytes change in a file, the process survives and names the file.

Inputs are valid small files of which a few bytes were changed. They are opened and read in child
processes with little memory; a child that dies takes the inputs after it with it, and is a failure.
"""

import json
import os
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

FORMS = ("netCDF-4", "netCDF-4 deflated", "netCDF-3", "Zarr 2", "Zarr 3", "Zarr 3 consolidated")
QUICK, DEEP = 20, 200

pytestmark = pytest.mark.filterwarnings("ignore:Consolidated metadata")

# the child: opens and reads what is named on its standard input, and tells what came of it
READER = """
import json, resource, sys, warnings
warnings.simplefilter("ignore")
from weatherdiff import open_fields
from weatherdiff.errors import WeatherdiffError
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_AS, (3 * 2**30, 3 * 2**30))
from weatherdiff.data.sources.formats import load
for line in sys.stdin:
    path = json.loads(line)
    try:
        load(open_fields(path))
        answer = [0, ""]
    except WeatherdiffError as error:
        answer = [error.exit_code, str(error)]
    except Exception as error:
        answer = [70, f"{type(error).__name__}: {error}"]
    print(json.dumps(answer), flush=True)
"""


def fields():
    values = 280 + np.random.default_rng(0).integers(0, 99, (4, 3, 5)) / 8
    return xr.Dataset(
        {"t2m": (("time", "lat", "lon"), values.astype("f4"), {"units": "K", "long_name": "t"})},
        {
            "time": np.datetime64("2001-01-01", "ns") + np.arange(4) * np.timedelta64(6, "h"),
            "lat": [0.0, 1.0, 2.0],
            "lon": [0.0, 1.0, 2.0, 3.0, 4.0],
        },
    )


def write(path, form):
    ds = fields()
    match form:
        case "netCDF-4":
            ds.to_netcdf(path, engine="netcdf4")
        case "netCDF-4 deflated":
            encoding = {"zlib": True, "shuffle": True, "chunksizes": (1, 3, 5)}
            ds.to_netcdf(path, engine="netcdf4", encoding={"t2m": encoding})
        case "netCDF-3":
            ds.to_netcdf(path, format="NETCDF3_CLASSIC", unlimited_dims=["time"])
        case "Zarr 2":
            ds.to_zarr(path, zarr_format=2, consolidated=True)
        case _:
            ds.to_zarr(path, zarr_format=3, consolidated="consolidated" in form)


def mutate(path, seed):
    """Change one to sixteen bytes of a file, or of one file of a store; sometimes cut it."""
    choose = random.Random(seed)  # noqa: S311
    files = [path] if path.is_file() else sorted(f for f in path.rglob("*") if f.is_file())
    victim = choose.choice(files)
    content = bytearray(victim.read_bytes())
    telling = [i for i, byte in enumerate(content) if byte] or [0]
    for _ in range(choose.choice([1, 1, 2, 4, 16])):
        place = choose.choice(telling) if choose.random() < 0.8 else choose.randrange(len(content))
        content[place] = choose.choice(
            [0, 255, choose.randrange(256), content[place] ^ 1 << choose.randrange(8)]
        )
    if choose.random() < 0.1:
        del content[choose.randrange(len(content)) :]
    victim.write_bytes(content)


def read_in_children(paths):
    """Exit code and message for each path; code -N if the child died of signal N."""
    answers = []
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    while len(answers) < len(paths):
        left = "\n".join(json.dumps(str(path)) for path in paths[len(answers) :])
        child = subprocess.run(
            [sys.executable, "-c", READER],
            input=left, capture_output=True, text=True, env=environment, check=False,
        )  # fmt: skip
        told = [json.loads(line) for line in child.stdout.splitlines()]
        answers += told
        if child.returncode or not told:
            answers.append([child.returncode or 1, child.stderr[-500:]])
    return answers


def fuzz(folder, count):
    originals = {}
    for form in FORMS:
        originals[form] = folder / f"original {form}"
        write(originals[form], form)
    paths = []
    for seed in range(count):
        form = FORMS[seed % len(FORMS)]
        paths.append(folder / f"input {seed}, {form}")
        if originals[form].is_dir():
            shutil.copytree(originals[form], paths[-1])
        else:
            shutil.copy(originals[form], paths[-1])
        mutate(paths[-1], seed)
    answers = read_in_children([*originals.values(), *paths])
    intact, changed = answers[: len(FORMS)], answers[len(FORMS) :]
    assert [code for code, _ in intact] == [0] * len(FORMS), intact
    return paths, changed


def check(folder, count):
    paths, answers = fuzz(folder, count)
    failures = [
        (path.name, code, message)
        for path, (code, message) in zip(paths, answers, strict=True)
        if code not in (0, 65, 66, 74) or (code and path.name not in message)
    ]
    assert failures == []
    refused = sum(code != 0 for code, _ in answers)
    assert refused >= count // 4  # the bytes that were changed mattered


def test_changed_bytes_are_survived_and_the_file_is_named(tmp_path):
    check(tmp_path, QUICK)


@pytest.mark.deep
def test_many_changed_bytes_are_survived_and_the_file_is_named(tmp_path):
    check(tmp_path, DEEP)
