"""``pullback models``: the list, importing, exporting."""

import json
from pathlib import Path

import pytest
import torch

from pullback import networks
from pullback.cli.main import run

KEYS = {"name", "parameters", "multiply_adds", "shape", "settings", "summary"}


def checkpoint(path: Path) -> Path:
    """A small VoxelMorph as its original code saves it."""
    torch.manual_seed(0)
    network = networks.build("voxelmorph", num_dims=2, size="pooled", encoder=[2, 2], decoder=[2, 2, 2])
    tensors = {}
    for name, value in network.state_dict().items():
        words = name.split(".")
        layer = "flow" if words[0] == "head" else ".".join(["unet_model", *words[1:-2], "main"])
        tensors[f"{layer.replace('finest', 'remaining')}.{words[-1]}"] = value
    torch.save({"config": {"inshape": (16, 20), "int_steps": 1, "int_downsize": 2}, "model_state": tensors}, path)
    return path


def complaint(capsys) -> str:
    err = capsys.readouterr().err
    assert err.count("\n") == 1, err
    return err


def test_the_list_names_every_family_with_its_costs(capsys):
    assert run(["models", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == networks.names()
    assert all(set(row) >= KEYS and row["shape"] == [160, 192, 224] for row in rows)
    assert all(row["parameters"] > 0 and row["multiply_adds"] > row["parameters"] for row in rows)


def test_the_list_for_people_and_for_slices(capsys):
    assert run(["models", "--shape", "64x64"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(networks.names())
    assert "64x64" in lines[0]


def test_a_shape_that_is_none(capsys):
    assert run(["models", "--shape", "64"]) == 2
    assert "160x192x224" in complaint(capsys)


def test_import_writes_weights_with_a_card(tmp_path: Path, capsys):
    pytest.importorskip("safetensors")
    from pullback.training.weights import load_network

    source, out = checkpoint(tmp_path / "original.pt"), tmp_path / "weights.safetensors"
    assert run(["models", "import", "voxelmorph", str(source), "--out", str(out), "--orientation", "LA"]) == 0
    said = capsys.readouterr().out
    assert "16x20" in said
    network, card = load_network(out)
    assert (card.family, card.shape, card.orientation, card.alignment) == ("voxelmorph", (16, 20), "LA", "header")
    original = networks.import_weights("voxelmorph", source)
    pair = torch.rand(2, 1, 1, 16, 16)
    assert torch.equal(network(*pair)["displacement"], original(*pair)["displacement"])
    assert run(["models", "import", "voxelmorph", str(source), "--out", str(out)]) != 0
    assert "--overwrite" in complaint(capsys)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["voxelmorf", "original.pt"], "Did you mean 'voxelmorph'"),
        (["symnet", "original.pt"], "no checkpoint of 'symnet'"),
        (["voxelmorph", "nothing.pt"], "no such file"),
        (["voxelmorph", "original.pt", "--set", "num_squarings"], "name=value"),
        (["voxelmorph", "original.pt", "--set", "num_squarigns=3"], "Did you mean 'num_squarings'"),
        (["voxelmorph", "original.pt", "--orientation", "AAS"], "orientation"),
    ],
)
def test_import_refuses(tmp_path: Path, capsys, monkeypatch, words: list[str], message: str):
    pytest.importorskip("safetensors")
    checkpoint(tmp_path / "original.pt")
    monkeypatch.chdir(tmp_path)
    assert run(["models", "import", *words, "--out", "weights.safetensors"]) == 2
    assert message in complaint(capsys)
    assert not (tmp_path / "weights.safetensors").exists()


def test_export(tmp_path: Path, capsys):
    for package in ("safetensors", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    weights, out = tmp_path / "weights.safetensors", tmp_path / "model.onnx"
    source = checkpoint(tmp_path / "original.pt")
    assert run(["models", "import", "voxelmorph", str(source), "--out", str(weights)]) == 0
    assert run(["models", "export", str(weights), "--out", str(out)]) == 0
    assert "onnxruntime differs by at most" in capsys.readouterr().out
    assert out.stat().st_size > 1000
