"""``pullback models``: list the networks, read published weights, export to ONNX."""

import json
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from pullback import networks
from pullback.cli.apply import refuse_to_replace
from pullback.io.atomic import replacing
from pullback.registration.card import Card
from pullback.registration.normalisation import Normalisation
from pullback.training.weights import load_network, save_network, versions

LARGEST_DIFFERENCE_VOXELS = 0.01

app = typer.Typer(invoke_without_command=True, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.callback()
def models(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list of objects.")] = False,
    shape: Annotated[str, typer.Option(help="Voxels that the costs are for; two sizes for 2-D.")] = "160x192x224",
) -> None:
    """Networks that register: names, parameters and costs; without a command, list them."""
    if context.invoked_subcommand is not None:
        return
    rows = [describe(name, parse_shape(shape)) for name in networks.names()]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'name':<26}{'parameters':>12}{'multiply-adds':>16}  for one pair of {shape}")
    for row in rows:
        print(f"{row['name']:<26}{row['parameters']:>12,}{row['multiply_adds'] / 1e9:>14.2f} G  {row['summary']}")


def describe(name: str, shape: tuple[int, ...]) -> dict[str, Any]:
    """A family with its default settings, as JSON values."""
    entry = networks.find(name)
    with torch.device("meta"):
        network = networks.build(name, num_dims=len(shape))
        cost = networks.measure_cost(network, shape)
    return {
        "name": name,
        "summary": entry.summary,
        "parameters": cost.parameters,
        "multiply_adds": cost.multiply_adds,
        "shape": list(shape),
        "settings": network.settings,
        "published_parameters": [{"settings": s, "parameters": n} for s, n in entry.published],
        "importable": name in networks.importable(),
    }


@app.command("import")
def import_weights(
    family: Annotated[str, typer.Argument(help="Name of the family; see pullback models.")],
    file: Annotated[Path, typer.Argument(help="The original authors' checkpoint (.pth, .pt).")],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="A setting that the file does not say: name=value.")
    ] = None,
    shape: Annotated[
        str | None, typer.Option(help="Voxels of the lattice it was trained on, such as 160x192x224.")
    ] = None,
    spacing_mm: Annotated[float, typer.Option(help="Spacing of that lattice.")] = 1.0,
    orientation: Annotated[str | None, typer.Option(help="Where that lattice's axes point, such as LIA.")] = None,
    normalisation: Annotated[
        str, typer.Option(help="Of the intensities: none, min-max, percentile, z-score.")
    ] = "min-max",
    alignment: Annotated[str, typer.Option(help="Before the network: header, view, mass, rigid, affine.")] = "header",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Read weights that a network's authors published; only tensors are read, a pickle is never executed."""
    refuse_to_replace(out, overwrite)
    settings = parse_settings(changes or [])
    transcript = networks.transcribe(family, file, **settings)
    network = networks.import_weights(family, file, **settings)
    lattice = transcript.shape if shape is None else parse_shape(shape)
    card = Card(
        family=family,
        settings=network.settings,
        shape=networks.padded_shape(network, lattice),
        spacing_mm=(spacing_mm,) * network.num_dims,
        normalisation=Normalisation(normalisation),
        alignment=alignment,
        num_channels=network.num_channels,
        recipe={"imported_from": file.name},
        versions=versions(),
        orientation=orientation or transcript.orientation,
    )
    save_network(out, network, card)
    sizes = "x".join(map(str, card.shape))
    print(f"{family}: {networks.num_parameters(network):,} parameters, written to {out}")
    print(
        f"lattice {sizes} of {spacing_mm:g} mm, axes {card.orientation}, intensities {normalisation}, alignment by "
        f"{alignment}; the checkpoint does not say these: see --help to set them"
    )


@app.command("export")
def export(
    weights: Annotated[Path, typer.Argument(help="A .safetensors file of pullback train or models import.")],
    out: Annotated[Path, typer.Option(help="The .onnx file to write.")],
    shape: Annotated[
        str | None, typer.Option(help="Voxels of the images; default: the lattice of the weights.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
) -> None:
    """Write a network as ONNX: fixed and moving in, displacement in voxels out; checked if onnxruntime is there."""
    refuse_to_replace(out, overwrite)
    network, card = load_network(weights)
    lattice = networks.padded_shape(network, card.shape if shape is None else parse_shape(shape))
    model = networks.export_onnx(network, lattice)
    checked = "not checked: onnxruntime is not installed"
    if networks.has_onnxruntime():
        generator = torch.Generator().manual_seed(0)
        pair = [torch.rand(1, network.num_channels, *lattice, generator=generator) for _ in range(2)]
        difference = networks.compare_onnx(model, network, *pair)
        if not difference < LARGEST_DIFFERENCE_VOXELS:
            raise ValueError(f"onnxruntime's displacement differs by {difference:.3g} voxels; nothing was written.")
        checked = f"onnxruntime differs by at most {difference:.2g} voxels"
    with replacing(out) as temporary:
        temporary.write_bytes(model)
    print(f"{out}: {card.family} for {'x'.join(map(str, lattice))}, {checked}")


def parse_shape(text: str) -> tuple[int, ...]:
    """``160x192x224`` as sizes.

    Example:
        >>> parse_shape("160x192")
        (160, 192)
    """
    parts = text.lower().replace(",", "x").split("x")
    if len(parts) not in (2, 3) or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise ValueError(f"`shape` is '{text}', but two or three sizes are needed, such as 160x192x224.")
    return tuple(int(part) for part in parts)


def parse_settings(changes: list[str]) -> dict[str, Any]:
    """``name=value`` as settings; values are JSON where they can be read so, words otherwise.

    Example:
        >>> parse_settings(["num_squarings=7", "parametrisation=velocity"])
        {'num_squarings': 7, 'parametrisation': 'velocity'}
    """
    settings = {}
    for change in changes:
        name, sign, value = change.partition("=")
        if not sign:
            raise ValueError(f"`--set` is '{change}', but name=value is needed.")
        try:
            settings[name] = json.loads(value)
        except json.JSONDecodeError:
            settings[name] = value
    return settings
