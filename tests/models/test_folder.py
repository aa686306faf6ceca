"""A model folder comes back as it was, or not at all."""

import json
import pickle

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from weatherdiff.errors import InputError, MissingInputError, StorageError
from weatherdiff.models import folder as module
from weatherdiff.models.folder import FORMAT_VERSION, load_model, save_model
from weatherdiff.sealed import SEAL, seal

ARRAYS = {
    "climatology": np.arange(24, dtype=np.float32).reshape(2, 3, 4)[:, ::-1],  # not contiguous
    "std": np.array([1.5, np.nan]),
    "mask": np.array([[True, False, True]]),
    "steps": np.array(7),
    "none": np.empty((0, 3), np.float32),
}
METADATA = {"channels": ["t", "q"], "period": [-5, 10], "nested": {"x": [1.5, None, True]}}


@pytest.fixture
def network(make_network):
    return make_network(periodic=True, mixing="factorised")


@pytest.fixture
def saved(tmp_path, network):
    ARRAYS["std"].setflags(write=False)
    save_model(tmp_path / "model", network=network, arrays=ARRAYS, metadata=METADATA)
    return tmp_path / "model"


def rewrite(folder, change):
    path = folder / "model.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(seal(document))


def test_a_model_comes_back_as_it_was(saved, network, make_inputs):
    again = load_model(saved)
    state = network.state_dict()
    assert state.keys() == again.network.state_dict().keys()
    assert all(torch.equal(v, state[k]) for k, v in again.network.state_dict().items())
    assert again.arrays.keys() == ARRAYS.keys()
    for name, values in ARRAYS.items():
        np.testing.assert_array_equal(again.arrays[name], values)
        assert again.arrays[name].dtype == values.dtype
        assert again.arrays[name].shape == values.shape
    assert METADATA.items() <= again.metadata.items()
    assert not again.network.training
    with torch.inference_mode():
        assert torch.equal(again.network(*make_inputs(5, 6)), network(*make_inputs(5, 6)))


def test_a_folder_holds_two_files_and_no_pickle(saved, monkeypatch):
    assert sorted(p.name for p in saved.iterdir()) == ["model.json", "weights.safetensors"]
    for place in (pickle, torch):
        monkeypatch.setattr(place, "load", lambda *_, **__: pytest.fail("unpickled"))
    monkeypatch.setattr(pickle, "loads", lambda *_, **__: pytest.fail("unpickled"))
    monkeypatch.setattr(pickle, "Unpickler", lambda *_, **__: pytest.fail("unpickled"))
    load_model(saved)


def test_the_same_model_is_saved_as_the_same_bytes(saved, tmp_path, network):
    save_model(tmp_path / "again", network=network, arrays=ARRAYS, metadata=METADATA)
    for name in ("model.json", "weights.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (saved / name).read_bytes()


def test_a_model_is_replaced_only_on_request(saved, network):
    with pytest.raises(StorageError, match="exists already"):
        save_model(saved, network=network, arrays={}, metadata={})
    save_model(saved, network=network, arrays={}, metadata={"new": 1}, overwrite=True)
    assert load_model(saved).metadata["new"] == 1
    assert [p.name for p in saved.parent.iterdir()] == ["model"]


def test_a_failure_leaves_the_earlier_model_and_nothing_else(saved, network, monkeypatch):
    def full(*_):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(StorageError, match="No space left"):
        save_model(saved, network=network, arrays={}, metadata={}, overwrite=True)
    assert load_model(saved).metadata["channels"] == ["t", "q"]
    assert [p.name for p in saved.parent.iterdir()] == ["model"]


def test_a_network_of_two_outputs_comes_back(tmp_path, make_network, make_inputs):
    network = make_network(outputs=2)
    save_model(tmp_path / "model", network=network, arrays={}, metadata={})
    with torch.inference_mode():
        found, expected = (
            n(*make_inputs(5, 6)) for n in (load_model(tmp_path / "model").network, network)
        )
    assert found.shape[0] == 2
    assert torch.equal(found, expected)


@pytest.mark.parametrize("version", [1, 2])
def test_a_folder_from_before_there_were_outputs_loads_as_it_is(
    saved, network, make_inputs, version
):
    rewrite(saved, lambda d: (d.update(version=version), d["architecture"].pop("outputs")))
    again = load_model(saved).network
    assert again.outputs == 1
    with torch.inference_mode():
        assert torch.equal(again(*make_inputs(5, 6)), network(*make_inputs(5, 6)))


def test_metadata_that_are_not_plain_leave_nothing(tmp_path, network):
    with pytest.raises(TypeError):
        save_model(tmp_path / "model", network=network, arrays={}, metadata={"x": object()})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_missing_file_is_reported_as_missing(saved, name):
    (saved / name).unlink()
    with pytest.raises(MissingInputError, match=name) as caught:
        load_model(saved)
    assert caught.value.exit_code == 66


def test_a_missing_folder_is_reported_as_missing(tmp_path):
    with pytest.raises(MissingInputError, match="There is no model"):
        load_model(tmp_path / "absent")


def test_altered_weights_are_refused(saved):
    path = saved / "weights.safetensors"
    tensors = load_file(path)
    tensors["network.gain.bias"] += 1e-6
    save_file(tensors, path)
    with pytest.raises(InputError, match="SHA-256"):
        load_model(saved)


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b"", lambda b: b[:90] + b"?" + b[91:]]
)
def test_damaged_weights_are_refused(saved, damage):
    path = saved / "weights.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"weights\.safetensors"):
        load_model(saved)


def test_an_altered_description_is_refused(saved):
    path = saved / "model.json"
    path.write_text(path.read_text().replace("null", "true"))
    with pytest.raises(InputError, match=r"model\.json is damaged: it was altered"):
        load_model(saved)


def test_a_model_from_before_descriptions_had_a_checksum_is_read(saved):
    path = saved / "model.json"
    document = json.loads(path.read_text()) | {"version": 2}
    del document[SEAL]
    path.write_text(json.dumps(document, indent=2) + "\n")
    assert load_model(saved).metadata["nested"] == METADATA["nested"]


def test_a_newer_version_is_refused_with_advice(saved):
    rewrite(saved, lambda d: d.update(version=FORMAT_VERSION + 1))
    with pytest.raises(InputError, match="Upgrade weatherdiff") as caught:
        load_model(saved)
    assert caught.value.exit_code == 65


@pytest.mark.parametrize(
    "text", ["", "{", "[1, 2]", "null", '{"format": "another"}', "\x00\xff", '{"format": 1, "x"']
)
def test_a_damaged_description_is_refused(saved, text):
    (saved / "model.json").write_text(text)
    with pytest.raises(InputError, match=r"model\.json"):
        load_model(saved)


def test_a_description_that_is_not_text_is_refused(saved):
    (saved / "model.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="damaged"):
        load_model(saved)


@pytest.mark.parametrize("key", ["version", "architecture", "weights_sha256", "format"])
def test_a_description_without_a_needed_entry_is_refused(saved, key):
    rewrite(saved, lambda d: d.pop(key))
    with pytest.raises(InputError):
        load_model(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"size": {"width": 8}},
        {"size": "huge"},
        {"channels": 5},
        {"mixing": "joint"},
        {"unknown": 1},
        {"channels": "two"},
    ],
)
def test_an_architecture_that_does_not_fit_the_weights_is_refused(saved, change):
    rewrite(saved, lambda d: d["architecture"].update(change))
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(saved)
