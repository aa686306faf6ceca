import importlib
import subprocess
import sys

import pytest

import weatherdiff

PACKAGES = ("weatherdiff", "weatherdiff.data", "weatherdiff.evaluation", "weatherdiff.forecasting")


def test_importing_loads_neither_torch_nor_what_few_need() -> None:
    """One process for all, in the order of their imports, since each takes seconds to start."""
    code = """
import sys
heavy = {"torch", "lightning", "numba", "matplotlib", "scipy.stats", "scipy.optimize"}
heavy.add("weatherdiff.training")
for module in ("weatherdiff", "weatherdiff.evaluation", "weatherdiff.report"):
    __import__(module)
    print(module, *sorted(heavy.intersection(sys.modules)))
import weatherdiff.forecasting.forecaster, weatherdiff.models.folder
print("forecaster", *sorted(heavy.difference({"torch"}).intersection(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [
        "weatherdiff", "weatherdiff.evaluation", "weatherdiff.report", "forecaster"
    ]  # fmt: skip


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_resolves_and_is_documented(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        assert getattr(module, name).__doc__, name
        assert name in dir(module)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = weatherdiff.nonsense
