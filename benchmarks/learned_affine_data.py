"""The data of source 002, rebuilt: brains brought to ICBM152 by a registration, enlarged to 335 by random affine maps.

The 25 scans of 20 people lie on lattices of 64 voxels of 4 mm (256 mm, as the study's), intensities from 0 to 1. Every
image is a scan that a random map of its world has carried away; from where it is, the true map to it from the template
is the registration's, carried away too. People never cross folds; rescans of a person are that person's.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from common import data_folder
from learned_affine_tools import tool_of
from pullback import functional
from pullback.data import Image, LabelMap
from pullback.io import image_from, read_image, read_labels
from pullback.networks import affine
from pullback.registration import Card, Normalisation
from pullback.registration.placement import see
from pullback.registration.predict import place_for
from pullback.space import Grid
from pullback.training.augmentation import RandomAffine

CARD = Card("airnet", {}, (64,) * 3, (4.0,) * 3, Normalisation("min-max"), "view")
SAME_PERSON = (("1003", "1023"), ("1004", "1024"), ("1005", "1025"), ("1018", "1038"), ("1019", "1039"))
NUM_TEST_PEOPLE, NUM_FOLDS = 4, 3
NUM_TEST, NUM_PER_FOLD = 65, 90
"""Of the 335 images of the study, 65 were for the test and 270 for three folds."""
TEST = -1
SPREAD = RandomAffine(rotation_degrees=15.0, scaling=0.2, shear=0.1, translation_voxels=5.0)
"""Of the random maps; translations in lattice voxels of 4 mm."""
FILE = "data.npz"


@dataclass(frozen=True)
class Data:
    """The images and what is known of them.

    Attributes:
        template: ``(1, 1, 64, 64, 64)``.
        images: ``(335, 1, 64, 64, 64)`` float16: carried away.
        registered: The same by the true maps.
        matrices: ``(335, 4, 4)`` float64: true voxel matrices, template lattice to image lattice.
        carried: ``(335, 4, 4)`` float64: world matrices from a carried image back to the scan it was made from.
        lattices: ``(335, 4, 4)``: ``voxel_to_world`` of the images.
        template_lattice: ``(4, 4)``: that of the template.
        scans: Name of the scan of each image.
        folds: 0, 1, 2 or `TEST`.
    """

    template: Tensor
    images: Tensor
    registered: Tensor
    matrices: Tensor
    carried: Tensor
    lattices: Tensor
    template_lattice: Tensor
    scans: list[str]
    folds: Tensor

    def where(self, fold: int) -> Tensor:
        """Indices of a fold's images."""
        return (self.folds == fold).nonzero().flatten()

    def world_matrices(self, matrices: Tensor, index: Tensor) -> Tensor:
        """World matrices, template to carried image, of voxel matrices ``(N, 4, 4)`` for the images `index`."""
        return self.lattices[index] @ matrices.double() @ torch.linalg.inv(self.template_lattice)


def load(folder: Path) -> Data:
    """What :func:`prepare` wrote."""
    with np.load(folder / FILE, allow_pickle=False) as arrays:
        tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files if name != "scans"}
        return Data(scans=arrays["scans"].tolist(), **tensors)


def template() -> Image:
    """ICBM152 as nilearn's wheel has it: the brain alone, 2 mm."""
    from nilearn.datasets import load_mni152_template

    return image_from(load_mni152_template(resolution=2))


def template_tissues() -> LabelMap:
    """1 fluid, 2 grey and 3 white matter of the template, the likeliest of each voxel of its brain."""
    from nilearn.datasets import load_mni152_gm_template, load_mni152_wm_template

    brain = template()
    grey, white = (
        image_from(load(resolution=2)).tensor[0] for load in (load_mni152_gm_template, load_mni152_wm_template)
    )
    likeliest = torch.stack([1 - grey - white, grey, white]).argmax(0) + 1
    inside = (brain.tensor[0] > 0) & (grey + white > 0)
    return LabelMap(torch.where(inside, likeliest, 0)[None].to(torch.int32), brain.grid)


def scan_names() -> list[str]:
    """The 25 scans."""
    return sorted(path.name.removesuffix("_image.nii.gz") for path in folder_of().glob("*_image.nii.gz"))


def folder_of() -> Path:
    """Where they are."""
    return data_folder("brains", "native-2mm")


def scan(name: str) -> Image:
    """One of them."""
    return read_image(folder_of() / f"{name}_image.nii.gz")


def tissues(name: str) -> LabelMap:
    """Its tissues, as numbered in :func:`template_tissues`."""
    return read_labels(folder_of() / f"{name}_tissues.nii.gz")


def folds_of(names: list[str], *, seed: int = 0) -> dict[str, int]:
    """The fold of each scan, by person: four people for the test, the others in three folds."""
    first = {second: first for first, second in SAME_PERSON}
    people = sorted({first.get(name, name) for name in names})
    order = [people[n] for n in np.random.default_rng(seed).permutation(len(people))]
    place = {person: TEST if n < NUM_TEST_PEOPLE else n % NUM_FOLDS for n, person in enumerate(order)}
    return {name: place[first.get(name, name)] for name in names}


def prepare(folder: Path, *, truth: str = "ours", seed: int = 0) -> None:
    """Register every scan to the template, carry copies away, and write everything to `folder`.

    Args:
        folder: Gets `FILE`.
        truth: By whom the true maps are made (:func:`learned_affine_tools.tool_of`).
        seed: Of the random maps.
    """
    fixed = template()
    template_lattice = place_for(CARD, fixed)
    names = scan_names()
    place = folds_of(names)
    rows: dict[str, list] = {key: [] for key in ("images", "registered", "matrices", "carried", "lattices", "folds")}
    scans = []
    seen_template = see(fixed, CARD, template_lattice)
    for number, name in enumerate(names):
        matrix_of_scan = tool_of(truth, name)(fixed, scan(name)).matrix
        print(f"{name}: fold {place[name]}", flush=True)
        lattice = place_for(CARD, scan(name))
        count = _num_copies(name, place)
        generator = torch.Generator().manual_seed(1000 * seed + number)
        carried = _carried(count, lattice, generator)
        for back in carried:
            image = see(scan(name), CARD, Grid(lattice.shape, back @ lattice.voxel_to_world))
            matrix = lattice.world_to_voxel @ torch.linalg.inv(back) @ matrix_of_scan @ template_lattice.voxel_to_world
            straight = functional.warp(image, affine.displacement_of(matrix[None].float(), lattice.shape))
            rows["images"].append(image[0].half())
            rows["registered"].append(straight[0].half())
            rows["matrices"].append(matrix)
            rows["carried"].append(back)
            rows["lattices"].append(lattice.voxel_to_world)
            rows["folds"].append(torch.tensor(place[name]))
            scans.append(name)
    arrays = {key: torch.stack(values).numpy() for key, values in rows.items()}
    folder.mkdir(parents=True, exist_ok=True)
    lattice = template_lattice.voxel_to_world.numpy()
    np.savez(folder / FILE, template=seen_template.numpy(), template_lattice=lattice, scans=np.array(scans), **arrays)


def _num_copies(name: str, place: dict[str, int]) -> int:
    """As even as can be among the scans of a part, so that parts have the study's sizes."""
    part = [other for other in place if place[other] == place[name]]
    total = NUM_TEST if place[name] == TEST else NUM_PER_FOLD
    return total // len(part) + (part.index(name) < total % len(part))


def _carried(count: int, lattice: Grid, generator: torch.Generator) -> Tensor:
    """World matrices ``(count, 4, 4)`` about the lattice's middle; the first leaves the scan where it is."""
    rows = SPREAD.draw(count, 3, generator).double()
    rows[0] = torch.eye(3, 4).double()
    about = affine.matrix_about(rows[:, :, :3].float(), rows[:, :, 3].float(), (torch.tensor(lattice.shape) - 1) / 2)
    return lattice.voxel_to_world @ about.double() @ lattice.world_to_voxel
