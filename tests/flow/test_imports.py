"""The flow and the networks are tensors only."""

import subprocess
import sys


def test_flow_and_models_load_neither_xarray_nor_a_type_checker():
    code = (
        "import sys, weatherdiff.flow, weatherdiff.models.folder;"
        "print([m for m in ('xarray', 'pandas', 'dask', 'zarr', 'lightning', 'beartype')"
        " if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
