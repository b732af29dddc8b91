"""VoxelMorph: a U-Net that gives a displacement or a stationary velocity.

Paper: Balakrishnan et al., VoxelMorph: a learning framework for deformable medical image registration, IEEE TMI 38
(2019), doi:10.1109/TMI.2019.2897538; with velocities: Dalca et al., Unsupervised learning of probabilistic
diffeomorphic registration for images and surfaces, Medical Image Analysis 57 (2019), doi:10.1016/j.media.2019.07.006.
Code: github.com/voxelmorph/voxelmorph (Apache-2.0), read at 2024-03-03.

Sizes: ``1`` and ``2`` are the papers' networks, whose encoder strides; ``pooled`` is the present code's default.
Parameters in 3-D: 274,387 / 301,411 / 327,331.

What differs, and why: fields repeat their edge while they are integrated (zeros shrink them there), and the halved
lattice shares the borders of the full one, not its first and last centres, since only then values scale by two. The
original's ways are the options ``outside="zeros"`` and ``resizing="corners"``, which the importer sets. The velocity in
the state, and with it its regularity, is on the full lattice.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pullback.checks import check_choice
from pullback.networks.blocks import UNet, head
from pullback.networks.contract import AbstractNetwork, State
from pullback.networks.importing import Tensors, Transcript, key_map, rename
from pullback.networks.parametrisation import Displacement, Velocity
from pullback.networks.registry import family

LAYOUTS: dict[str, dict[str, Any]] = {
    "1": {"encoder": (8, 32, 32, 32), "decoder": (32, 32, 32, 32, 32, 8, 8), "downsampling": "stride"},
    "2": {"encoder": (16, 32, 32, 32), "decoder": (32, 32, 32, 32, 32, 16, 16), "downsampling": "stride"},
    "pooled": {"encoder": (16, 32, 32, 32), "decoder": (32, 32, 32, 32, 32, 16, 16), "downsampling": "pool"},
}


def layout(
    size: str | int, encoder: Sequence[int] | None, decoder: Sequence[int] | None, downsampling: str | None
) -> dict[str, Any]:
    """The U-Net's widths of a published size, with what the caller wants otherwise."""
    chosen = LAYOUTS[check_choice("size", str(size), list(LAYOUTS))]
    own = {"encoder": encoder, "decoder": decoder, "downsampling": downsampling}
    return chosen | {name: value for name, value in own.items() if value is not None}


class VoxelMorph(AbstractNetwork):
    """See the module; arguments as in :func:`voxelmorph`."""

    def __init__(
        self,
        *,
        num_dims: int,
        num_channels: int,
        unet: dict[str, Any],
        parametrisation: Displacement | Velocity,
        head_std: float,
    ) -> None:
        backbone = UNet(num_dims, 2 * num_channels, **unet)
        super().__init__(num_dims=num_dims, num_channels=num_channels, multiple=backbone.multiple)
        self.unet = backbone
        self.head = head(num_dims, backbone.num_outputs, num_dims, std=head_std)
        self.parametrisation = parametrisation

    def state_of(self, fixed: Tensor, moving: Tensor) -> State:
        """`displacement`, and with velocities `velocity` and perhaps `inverse_displacement`."""
        field = self.head(self.unet(torch.cat([moving, fixed], dim=1)))
        if isinstance(self.parametrisation, Displacement):
            return self.parametrisation(field)
        return self.parametrisation(field, tuple(fixed.shape[2:]))


@family(
    "voxelmorph",
    published=(
        ({"size": "1"}, 274_387),
        ({"size": "2"}, 301_411),
        ({"size": "pooled"}, 327_331),
        ({"size": "pooled", "num_dims": 2}, 109_170),
    ),
)
def voxelmorph(
    *,
    num_dims: int = 3,
    num_channels: int = 1,
    size: str = "2",
    encoder: Sequence[int] | None = None,
    decoder: Sequence[int] | None = None,
    downsampling: str | None = None,
    convs_per_level: int = 1,
    is_half_resolution: bool = False,
    parametrisation: str = "velocity",
    num_squarings: int = 7,
    integration_factor: int = 2,
    is_bidirectional: bool = False,
    outside: str = "edge",
    resizing: str = "centres",
    head_std: float = 1e-5,
) -> VoxelMorph:
    """VoxelMorph: U-Net, displacement or stationary velocity.

    Args:
        num_dims: 2 or 3.
        num_channels: Channels of each image.
        size: ``1``, ``2`` or ``pooled``.
        encoder: Own widths, fine to coarse, instead of the size's.
        decoder: Own widths, coarse to fine.
        downsampling: ``stride`` or ``pool``, instead of the size's.
        convs_per_level: Convolutions that share a level.
        is_half_resolution: The U-Net leaves out its last upsampling; only with velocities integrated there.
        parametrisation: ``velocity`` or ``displacement``.
        num_squarings: Of the velocity.
        integration_factor: 2 integrates on the lattice of half the size.
        is_bidirectional: Give the inverse too; only with velocities.
        outside: ``edge`` or ``zeros``, see the module.
        resizing: ``centres`` or ``corners``, see the module.
        head_std: Of the last convolution's first weights.
    """
    unet = layout(size, encoder, decoder, downsampling)
    unet |= {"convs_per_level": convs_per_level, "is_half_resolution": is_half_resolution}
    if check_choice("parametrisation", parametrisation, ("velocity", "displacement")) == "displacement":
        if is_bidirectional or is_half_resolution:
            raise ValueError(
                "`parametrisation` is 'displacement', which gives neither an inverse (`is_bidirectional`) nor a "
                "field of half the size (`is_half_resolution`); take 'velocity' for those."
            )
        meaning: Displacement | Velocity = Displacement()
    else:
        meaning = Velocity(num_squarings, integration_factor, is_bidirectional, outside, resizing)
    if is_half_resolution and integration_factor != 2:
        raise ValueError(
            f"`integration_factor` is {integration_factor}, but with `is_half_resolution` the velocity lies on the "
            f"lattice of half the size; use 2."
        )
    return VoxelMorph(
        num_dims=num_dims, num_channels=num_channels, unet=unet, parametrisation=meaning, head_std=head_std
    )


@key_map("voxelmorph")
def _from_published(tensors: Tensors, config: dict[str, Any]) -> Transcript:
    """Files of the code's ``model.save``, present and before 2021 (names downarm, uparm, extras).

    Raises:
        ValueError: If the two images have different numbers of channels, or parts remain that are not known.
    """
    tensors = {name: value for name, value in tensors.items() if not name.endswith(".grid")}
    if config.get("src_feats", 1) != config.get("trg_feats", 1):
        raise ValueError(
            f"The checkpoint takes {config['src_feats']} and {config['trg_feats']} channels, but here both images need "
            f"as many."
        )
    is_old = any(name.startswith("unet_model.downarm.") for name in tensors)
    parts = ("downarm", "uparm", "extras") if is_old else ("encoder", "decoder", "remaining")
    layers, widths, per_level = [], [], 1
    for part, ours in zip(parts, ("encoder", "decoder", "finest"), strict=True):
        names = _numbered(tensors, f"unet_model.{part}.")
        widths.append([tensors[f"unet_model.{part}.{name}.main.weight"].shape[0] for name in names])
        for name in names:
            mine = f"{name}.0" if is_old and part != "extras" else name
            layers.append((f"unet_model.{part}.{name}.main", f"unet.{ours}.{mine}.0"))
            per_level = max(per_level, int(name.split(".")[1]) + 1 if "." in name else 1)
    settings = {
        "num_dims": tensors["flow.weight"].shape[0],
        "num_channels": tensors[f"{layers[0][0]}.weight"].shape[1] // 2,
        "size": "2" if is_old else "pooled",
        "encoder": widths[0],
        "decoder": widths[1] + widths[2],
        "convs_per_level": per_level,
        "outside": "zeros",
        "resizing": "corners",
    }
    renamed = rename(tensors, [*layers, ("flow", "head")])
    num_dims = settings["num_dims"]
    shape = tuple(config.get("inshape", (160, 192, 224)[:num_dims]))
    return Transcript(settings | _integration(config), renamed, shape, "RAS"[:num_dims])


def _numbered(tensors: Tensors, prefix: str) -> list[str]:
    """What stands between `prefix` and ``.main.weight``, in the order of the numbers."""
    found = [n.removeprefix(prefix).removesuffix(".main.weight") for n in tensors if n.startswith(prefix)]
    return sorted(
        {n for n in found if n.replace(".", "").isdigit()}, key=lambda n: [int(part) for part in n.split(".")]
    )


def _integration(config: dict[str, Any]) -> dict[str, Any]:
    """What the configuration beside the tensors says of the velocity, or the caller, if there is none."""
    if "int_steps" not in config:
        if "parametrisation" not in config:
            raise ValueError(
                "The checkpoint does not say whether the network gives a displacement or a velocity; give the setting "
                "parametrisation ('displacement' or 'velocity'), and for velocities num_squarings and "
                "integration_factor if they were not 7 and 2."
            )
        return {}
    if not config["int_steps"]:
        return {"parametrisation": "displacement"}
    return {
        "parametrisation": "velocity",
        "num_squarings": config["int_steps"],
        "integration_factor": config.get("int_downsize", 2),
        "is_bidirectional": bool(config.get("bidir", False)),
        "is_half_resolution": bool(config.get("unet_half_res", False)),
    }
