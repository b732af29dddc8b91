"""Pairs of two contrasts whose map is known, from real brains; the prostates.

The moving image is a brain, inverted or put through a smooth random curve that goes up and down, moved by a random
affine. Both images get shading and noise of their own. All is drawn from seeds.
"""

import nibabel
import numpy as np
import torch
from scipy.interpolate import PchipInterpolator

from common import data_folder
from learned_affine_data import SAME_PERSON, conventional, scan, scan_names
from pullback.data import Image, LabelMap
from pullback.io import labels_from, read_image
from pullback.landmarks import Keypoints, find_keypoints
from pullback.space import Grid
from pullback.training.augmentation import smooth_noise
from pullback.training.descriptor import KnownPair
from pullback.transforms import AbstractTransform, Affine, identity, warp

PARTS = {"train": 12, "validation": 2, "test": 6}
"""People in each."""
LARGEST_DEGREES, LARGEST_SCALING, LARGEST_SHIFT_MM = 20.0, 0.1, 15.0
SHADING, SHADING_WIDTH_VOXELS, NOISE = 0.3, 40.0, 0.03
"""Share, width, and standard deviation for brains from 0 to 1."""
NUM_KNOTS, MARGIN_VOXELS = 6, 8
NUM_KEYPOINTS, SMALLEST_VOXELS = 400, 1.0


def names_of(part: str, *, seed: int = 0) -> list[str]:
    """The scans of a part's people."""
    first = {second: first for first, second in SAME_PERSON}
    people = sorted({first.get(name, name) for name in scan_names()})
    order = [people[n] for n in np.random.default_rng(seed).permutation(len(people))]
    begin = sum(list(PARTS.values())[: list(PARTS).index(part)])
    chosen = order[begin : begin + PARTS[part]]
    return [name for name in scan_names() if first.get(name, name) in chosen]


def brain(name: str) -> Image:
    """A scan, its brightest at 1, with room around it for maps that carry it away."""
    image = scan(name)
    values = image.tensor / torch.quantile(image.tensor[image.tensor > 0], 0.999)
    room = torch.eye(4, dtype=torch.float64)
    room[:3, 3] = -MARGIN_VOXELS
    grid = Grid([n + 2 * MARGIN_VOXELS for n in image.grid.shape], image.grid.voxel_to_world @ room)
    return Image(torch.nn.functional.pad(values.clamp(0, 1), [MARGIN_VOXELS] * 6), grid)


def known_pairs(names: list[str], kind: str, *, copies: int, seed: int) -> list[KnownPair]:
    """Each brain with itself in another contrast, `copies` times."""
    pairs = []
    for copy in range(copies):
        for number, name in enumerate(names):
            image = brain(name)
            pairs.append(known_pair(image, image, kind, seed=seed + 1000 * copy + number))
    return pairs


def between_people(names: list[str], kind: str, *, seed: int) -> list[KnownPair]:
    """Each brain with the next one in another contrast; the truth is our affine registration of what both were."""
    pairs = []
    for number, (name, other) in enumerate(zip(names, names[1:] + names[:1], strict=True)):
        fixed, moving = brain(name), brain(other)
        truth = conventional(fixed, moving).linear
        pairs.append(known_pair(fixed, moving, kind, seed=seed + number, between=truth))
    return pairs


def known_pair(
    fixed: Image, moving: Image, kind: str, *, seed: int, between: AbstractTransform | None = None
) -> KnownPair:
    """`moving` in another contrast, carried away; `between` maps the fixed to it as it was."""
    random = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    carried = random_affine(moving, random)
    other = warp(moving.with_tensor(other_contrast(moving.tensor, kind, random)), ~carried, onto=moving.grid)
    seen = disturbed(fixed, generator)
    truth = carried @ (identity(3) if between is None else between)
    return KnownPair(seen, disturbed(other, generator), truth, keypoints_of(seen))


def random_affine(image: Image, random: np.random.Generator) -> Affine:
    """About the middle of an image: turned about any axis, scaled along each, moved in any direction."""
    axis, direction = (v / np.linalg.norm(v) for v in random.standard_normal((2, 3)))
    return Affine.from_parts(
        rotation=axis * np.radians(random.uniform(0, LARGEST_DEGREES)),
        scaling=1 + random.uniform(-LARGEST_SCALING, LARGEST_SCALING, 3),
        translation_mm=direction * random.uniform(0, LARGEST_SHIFT_MM),
        centre_mm=image.grid.centre.tolist(),
    )


def other_contrast(values: torch.Tensor, kind: str, random: np.random.Generator) -> torch.Tensor:
    """Values from 0 to 1 inverted or remapped, the background as it is."""
    if kind == "inverted":
        changed = 1.05 - values
    else:
        at = np.linspace(0, 1, NUM_KNOTS)
        heights = random.uniform(0.1, 1, NUM_KNOTS)
        while len(set(np.sign(np.diff(heights[1:-1])))) < 2:
            heights = random.uniform(0.1, 1, NUM_KNOTS)
        changed = torch.from_numpy(PchipInterpolator(at, heights)(values.numpy())).to(values)
    return torch.where(values > 0, changed, values)


def disturbed(image: Image, generator: torch.Generator) -> Image:
    """With shading and noise."""
    shading = smooth_noise(1, 1, image.grid.shape, SHADING_WIDTH_VOXELS, generator)[0]
    noise = torch.randn(image.tensor.shape, generator=generator)
    return image.with_tensor(image.tensor * (1 + SHADING * shading) + NOISE * noise)


def keypoints_of(image: Image) -> Keypoints:
    """As all methods take them."""
    spacing = float(image.grid.spacing_mm.mean())
    return find_keypoints(image, count=NUM_KEYPOINTS, smallest_mm=SMALLEST_VOXELS * spacing)


def prostates() -> list[tuple[Image, Image, LabelMap, LabelMap]]:
    """Ultrasound and MR, and their glands."""
    folder, found = data_folder("prostate"), []
    for path in sorted((folder / "mr-images").iterdir()):
        images = [read_image(folder / f"{kind}-images" / path.name) for kind in ("ultrasound", "mr")]
        files = [nibabel.load(folder / f"{kind}-labels" / path.name) for kind in ("ultrasound", "mr")]
        glands = [labels_from(file.slicer[..., 0] if file.ndim > 3 else file) for file in files]
        found.append((*(image.with_tensor(image.tensor.float() / 255) for image in images), *glands))
    return found
