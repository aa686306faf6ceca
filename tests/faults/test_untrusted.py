"""Nothing that is read as a model, a checkpoint or scores can run code or fill the memory."""

import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from weatherdiff.errors import InputError, MissingInputError, WeatherdiffError
from weatherdiff.models import VideoDenoiser
from weatherdiff.models.folder import load_model, save_model
from weatherdiff.sealed import seal
from weatherdiff.training import SafeCheckpointIO


class Exploit:
    """Makes a folder when it is unpickled: the canary."""

    def __init__(self, canary):
        self.canary = str(canary)

    def __reduce__(self):
        return (os.mkdir, (self.canary,))


def plain_pickle(canary):
    return pickle.dumps(Exploit(canary))


def torch_zip(canary):
    buffer = io.BytesIO()
    torch.save({"state_dict": Exploit(canary)}, buffer)
    return buffer.getvalue()


def torch_legacy(canary):
    buffer = io.BytesIO()
    torch.save({"a": Exploit(canary)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def npy_of_objects(canary):
    buffer = io.BytesIO()
    np.save(buffer, np.array([Exploit(canary)], object), allow_pickle=True)
    return buffer.getvalue()


def npz_of_objects(canary):
    buffer = io.BytesIO()
    np.savez(buffer, layout=np.array([Exploit(canary)], object))
    return buffer.getvalue()


def zip_bomb(canary):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(3 * 10**7))
        file.writestr("archive/version", "3")
    return buffer.getvalue()


def header_bomb(canary):
    """Safetensors whose header is to have 2**62 bytes."""
    return (2**62).to_bytes(8, "little") + b"{}"


def tensor_bomb(canary):
    """Safetensors of a few bytes that declare a tensor of four terabytes."""
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}})
    return len(header).to_bytes(8, "little") + header.encode()


def overlapping_tensors(canary):
    """A thousand tensors that are the same bytes."""
    place = {"dtype": "F32", "shape": [1000], "data_offsets": [0, 4000]}
    header = json.dumps({f"t{i}": place for i in range(1000)})
    return len(header).to_bytes(8, "little") + header.encode() + bytes(4000)


ATTACKS = [
    plain_pickle, torch_zip, torch_legacy, npy_of_objects, npz_of_objects, zip_bomb, header_bomb,
    tensor_bomb, overlapping_tensors,
]  # fmt: skip


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    network = VideoDenoiser(
        frames=2, channels=1, history=1, size={"width": 8, "blocks": 1, "levels": 2}
    )
    save_model(tmp_path / "model", network=network, arrays={"a": np.ones(3)}, metadata={"x": 1})
    assert load_model(tmp_path / "model").metadata["x"] == 1
    return tmp_path / "model"


def sign(model, change=lambda document: None):
    """Alter the description, and make it fit the weights, as an attacker would."""
    import hashlib

    document = json.loads((model / "model.json").read_text())
    content = (model / "weights.safetensors").read_bytes()
    document["weights_sha256"] = hashlib.sha256(content).hexdigest()
    change(document)
    (model / "model.json").write_text(seal(document))


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("name", ["last.ckpt", "best.pt", "model.npz"])
def test_a_checkpoint_runs_no_code_and_fills_no_memory(tmp_path, attack, name):
    canary = tmp_path / "canary"
    (tmp_path / name).write_bytes(attack(canary))
    with pytest.raises(InputError, match=name.replace(".", r"\.")) as caught:
        SafeCheckpointIO().load_checkpoint(tmp_path / name)
    assert caught.value.exit_code == 65
    assert not canary.exists()


@pytest.mark.parametrize("attack", ATTACKS)
def test_weights_run_no_code_and_fill_no_memory(tmp_path, model, attack):
    canary = tmp_path / "canary"
    (model / "weights.safetensors").write_bytes(attack(canary))
    sign(model)
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(model)
    assert not canary.exists()


@pytest.mark.parametrize("attack", [plain_pickle, torch_zip, torch_legacy])
def test_a_description_runs_no_code(tmp_path, model, attack):
    canary = tmp_path / "canary"
    (model / "model.json").write_bytes(attack(canary))
    with pytest.raises(InputError, match=r"model\.json is damaged"):
        load_model(model)
    assert not canary.exists()


def test_a_pickle_beside_a_model_is_not_looked_at(tmp_path, model):
    for name in ("model.pkl", "weights.pt", "weights.bin", "pytorch_model.bin", "config.py"):
        (model / name).write_bytes(plain_pickle(tmp_path / "canary"))
    load_model(model)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["architecture"].update(_target_="os.system"),
        lambda d: d["architecture"].update({"class": "os.system", "args": ["touch canary"]}),
        lambda d: d["architecture"].update(size="os.system"),
        lambda d: d["architecture"].update(mixing="builtins.eval"),
        lambda d: d.update(format="os.system"),
    ],
)
def test_a_class_name_in_a_description_is_refused(model, change):
    sign(model, change)
    with pytest.raises(InputError):
        load_model(model)


@pytest.mark.parametrize(
    "size",
    [
        {"width": 10**6, "blocks": 1, "levels": 2},
        {"width": 8, "blocks": 10**9, "levels": 2},
        {"width": 8, "blocks": 1, "levels": 10**9},
        {"width": 8, "blocks": 1, "levels": 60},
        {"width": 8, "blocks": "many", "levels": 2},
        {"width": 16, "blocks": 1, "levels": 2},
        {},
    ],
)
def test_an_architecture_that_is_not_that_of_the_weights_is_refused_unbuilt(model, size):
    sign(model, lambda d: d["architecture"].update(size=size))
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(model)


@pytest.mark.parametrize("key", ["frames", "channels", "history"])
def test_numbers_that_would_fill_the_memory_are_refused(model, key):
    sign(model, lambda d: d["architecture"].update({key: 10**9}))
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(model)


def test_weights_of_other_shapes_are_refused(model):
    tensors = load_file(model / "weights.safetensors")
    tensors["network.gain.bias"] = torch.zeros(7)
    save_file(tensors, model / "weights.safetensors")
    sign(model)
    with pytest.raises(InputError, match=r"gain\.bias has shape \(7,\)"):
        load_model(model)


def test_a_description_that_is_nested_too_deep_is_refused(model):
    (model / "model.json").write_text("[" * 100000)
    with pytest.raises(InputError, match="is damaged"):
        load_model(model)


@pytest.mark.parametrize(
    "document", ["[" * 100000, '{"$dict": [[[], 1]]}', '{"$tensor": "x"}', "1"]
)
def test_a_checkpoint_with_another_document_is_refused_or_plain(tmp_path, document):
    path = tmp_path / "a.ckpt"
    save_file({"a": torch.ones(2)}, path, metadata={"weatherdiff_training_state": document})
    if document == "1":
        assert SafeCheckpointIO().load_checkpoint(path) == 1
        return
    with pytest.raises(InputError, match=r"a\.ckpt is not a training checkpoint"):
        SafeCheckpointIO().load_checkpoint(path)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/a.ckpt", "https://example.org/a.ckpt", "s3://bucket/a.ckpt",
        "file:///etc/hostname", "hf://a/b", "simplecache::http://example.org/a.ckpt",
    ],
)  # fmt: skip
def test_a_url_is_no_checkpoint_and_no_model(url, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    for load in (SafeCheckpointIO().load_checkpoint, load_model):
        with pytest.raises(MissingInputError) as caught:
            load(url)
        assert caught.value.exit_code == 66


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("suffix", [".nc", ".grib", ".npz"])
def test_fields_run_no_code(tmp_path, attack, suffix):
    from weatherdiff import open_fields

    canary = tmp_path / "canary"
    (tmp_path / f"a{suffix}").write_bytes(attack(canary))
    for engine in (None, "netcdf4", "scipy"):
        with pytest.raises(WeatherdiffError, match=r"a\.") as caught:
            open_fields(tmp_path / f"a{suffix}", engine=engine)
        assert caught.value.exit_code == 65
    assert not canary.exists()


def test_no_module_reads_pickles():
    """Every call that could is in this list, with what makes it safe."""
    import pathlib

    import weatherdiff

    found = set()
    for path in pathlib.Path(weatherdiff.__file__).parent.rglob("*.py"):
        text = path.read_text()
        for call in ("pickle.load", "torch.load(", "np.load(", "joblib.load", "yaml.load(",
                     "yaml.unsafe", "eval(", "exec(", "__import__("):  # fmt: skip
            for line in text.splitlines():
                if call in line and "allow_pickle=False" not in line and f".{call}" not in line:
                    found.add((path.name, line.strip()))
    assert found == set()
