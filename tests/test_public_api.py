import importlib
import subprocess
import sys

import pytest

import weatherdiff

PACKAGES = ("weatherdiff", "weatherdiff.data", "weatherdiff.evaluation", "weatherdiff.forecasting")


@pytest.mark.parametrize("module", ["weatherdiff", "weatherdiff.evaluation", "weatherdiff.report"])
def test_importing_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules, 'lightning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_resolves_and_is_documented(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        assert getattr(module, name).__doc__, name
        assert name in dir(module)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = weatherdiff.nonsense
