"""Scores from strangers: what they declare, and what they lead to, is looked at before use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from weatherdiff.errors import InputError, StorageError
from weatherdiff.evaluation import open_scores
from weatherdiff.evaluation.storage import write_scores
from weatherdiff.sealed import write_manifest


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    path = tmp_path / "scores.zarr"
    write_scores(xr.Dataset({"crps": ("lead_time", np.arange(4.0))}), path)
    return path


def test_a_size_far_beyond_the_files_is_refused_before_it_is_allocated(scores: Path) -> None:
    for file in (scores / "crps" / "zarr.json", scores / "zarr.json"):
        document = json.loads(file.read_text())
        inside = document.get("consolidated_metadata", {}).get("metadata", {}).get("crps")
        (inside or document)["shape"] = [10**12]
        file.write_text(json.dumps(document))
    (scores / "manifest.json").unlink()
    write_manifest(scores)
    with pytest.raises(InputError, match="declares"):
        open_scores(scores)


def test_a_chunk_that_is_a_link_to_elsewhere_is_not_followed(scores: Path) -> None:
    chunk = scores / "crps" / "c" / "0"
    chunk.rename(scores.parent / "chunk")
    chunk.symlink_to(scores.parent / "chunk")
    with pytest.raises(StorageError, match="crps/c/0 is a link that leads out"):
        open_scores(scores)


@pytest.mark.parametrize("name", ["manifest.json", "zarr.json"])
def test_a_document_that_is_nested_too_deep_is_damage(scores: Path, name: str) -> None:
    (scores / name).write_text("[" * 200_000)
    with pytest.raises(StorageError, match="could not be read"):
        open_scores(scores)
