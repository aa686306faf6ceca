"""Every notebook runs from top to bottom, on less data and a smaller network."""

from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.py"))


def parameters(output: Path) -> str:
    shrunk = [
        f"output={output}",
        # The one that is shown.
        "data.variables=[2m_temperature]",
        "evaluation.events=[{variable: 2m_temperature, above_percentile: 90}]",
        "forecast.noise={2m_temperature: [0.93, 1.0]}",
        "model.size=tiny",
        "training.steps=8",
        "training.validate_every=4",
        "training.validation_windows=4",
        "training.validation_members=2",
        "forecast.members=4",
        "forecast.every=100",
        "forecast.steps=1",
    ]
    lines = {
        "config_path": str(ROOT / "configs" / "demo.yaml"),
        "rung": "noise_prediction",  # another than the notebook's own
        "overrides": shrunk,
    }
    # The notebook's own pictures are drawn; those of the page are in the tests of the workflow.
    undrawn = [
        "from weatherdiff.report.exhibits import Exhibit",
        "Exhibit.markup = lambda exhibit: exhibit.before",
    ]
    return "\n".join([*(f"{name} = {value!r}" for name, value in lines.items()), *undrawn])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs_from_top_to_bottom(path: Path, tmp_path: Path) -> None:
    notebook = jupytext.read(path)
    cell = next(c for c in notebook.cells if "parameters" in c.metadata.get("tags", []))
    cell.source = parameters(tmp_path / "run")
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "", "language": "python"}
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(ROOT)}}).execute()
    assert all(c.execution_count for c in notebook.cells if c.cell_type == "code")
    nbformat.validate(notebook)
