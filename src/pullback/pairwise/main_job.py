"""The main job: two images in, the map both ways, the warped image, a report and a verdict out."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pullback.data import Image, LabelMap, Pair, Points
from pullback.io import image_from, labels_from, read_points
from pullback.kernels.threads import use_threads
from pullback.landmarks import pair_by_name
from pullback.pairwise.output import save
from pullback.pairwise.summary import summarise, view_of
from pullback.pairwise.words import Start, check_words_for_network, learned_start, plan_from_words
from pullback.registration import Candidate, Plan, RegistrationResult
from pullback.registration import register as run
from pullback.registration.predict import plan_of, predict_start
from pullback.registration.verdict import Verdict
from pullback.registration.work import OnProgress
from pullback.reports import write_report
from pullback.training.weights import load_network
from pullback.transforms import AbstractTransform, warp


@dataclass(frozen=True, eq=False)
class Registration:
    """A registered pair.

    Attributes:
        pair: What was registered.
        plan: How.
        result: The maps and the evidence (see :class:`pullback.registration.RegistrationResult`).
        settings: The words it was asked for with.
        label_names: What labels are called in the report.
    """

    pair: Pair
    plan: Plan
    result: RegistrationResult
    settings: dict[str, Any] = field(default_factory=dict)
    label_names: Mapping[int, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        of = f"{self.pair.moving.name} onto {self.pair.fixed.name}"
        return f"Registration({of}, {self.verdict.value}: {'; '.join(self.verdict.reasons)})"

    @property
    def fixed_to_moving(self) -> AbstractTransform:
        """World points of the fixed image to the moving image (mm, RAS+); resamples moving onto fixed."""
        return self.result.fixed_to_moving

    @property
    def moving_to_fixed(self) -> AbstractTransform:
        """The inverse; ``~registration.fixed_to_moving`` is the same."""
        return self.result.moving_to_fixed

    @property
    def verdict(self) -> Verdict:
        """good, doubtful or failed, with reasons."""
        return self.result.verdict

    def warp(self, moving: Any = None, interpolation: str | None = None) -> Image | LabelMap:
        """Resample something on the moving side onto the fixed grid.

        Args:
            moving: An image or a label map (path, array, nibabel, SimpleITK or pullback object). Default: the moving
                image. Paths and arrays count as labels if `interpolation` is ``nearest`` or ``label``. A NumPy array or
                a tensor, which does not say where its voxels are, takes the moving image's grid.
            interpolation: ``linear``, ``cubic``, ``nearest`` or ``label``; default by kind.

        Raises:
            ValueError: If an array has another shape than the moving image.
        """
        if moving is None:
            voxels: Image | LabelMap = self.pair.moving
        elif isinstance(moving, LabelMap) or (interpolation in ("nearest", "label") and not isinstance(moving, Image)):
            voxels = labels_from(moving)
        else:
            voxels = image_from(moving)
        if isinstance(moving, np.ndarray | torch.Tensor):
            voxels = self._on_moving_grid(voxels)
        return warp(voxels, self.fixed_to_moving, onto=self.pair.fixed.grid, interpolation=interpolation)

    def _on_moving_grid(self, voxels: Image | LabelMap) -> Image | LabelMap:
        """An array's voxels, which have no place yet, where those of the moving image are."""
        grid = self.pair.moving.grid
        if voxels.grid.shape != grid.shape:
            raise ValueError(
                f"The array has shape {voxels.grid.shape}, but the moving image {grid.shape}; an array takes that "
                "image's grid, so for anything else build `Image(tensor, grid)` or `LabelMap(tensor, grid)`."
            )
        return voxels.with_tensor(voxels.tensor, grid)

    def save(
        self, directory: str | Path, *, overwrite: bool = False, verify: bool = True, bids: str | None = None
    ) -> Path:
        """Write the warped image, both transforms, ``result.json``, ``report.html`` and ``thumbnail.jpg``.

        The thumbnail is for pages of many registrations (``pullback report``). All files appear together at the end; if
        anything fails, none does.

        Args:
            directory: Where.
            overwrite: Replace results that are there.
            verify: Read both transforms back and compare them on points; ``read_back_mm`` in ``result.json`` is the
                largest difference.
            bids: Such as ``sub-01_from-MOVING_to-FIXED``: the transforms are then named as BIDS says, each with its
                JSON file beside it; ``transforms`` in ``result.json`` has the names.

        Raises:
            FileExistsError: If results are there already and `overwrite` is false.
            OSError: If a transform read back is not what was written.
            ValueError: If `bids` is not of that form.
        """
        return save(self, directory, overwrite=overwrite, verify=verify, bids=bids)

    def summary(self) -> dict[str, Any]:
        """The content of ``result.json``."""
        return summarise(self)

    def report(self, path: str | Path) -> Path:
        """Write the report alone, one self-contained HTML file."""
        write_report(path, view_of(self, self.summary(), self.warp()))
        return Path(path)


def register(
    fixed: Any,
    moving: Any,
    *,
    model: str = "deformable",
    initial: Start | Sequence[Start] | None = None,
    initial_model: str | Path | None = None,
    similarity: str = "auto",
    preset: str = "brain",
    smoothness: float = 1.0,
    fixed_mask: Any = None,
    moving_mask: Any = None,
    fixed_labels: Any = None,
    moving_labels: Any = None,
    fixed_points: Any = None,
    moving_points: Any = None,
    points_in_lps: bool = False,
    label_names: Mapping[int, str] | None = None,
    channel_weights: Sequence[float] | None = None,
    model_file: str | Path | None = None,
    mirrored: bool = False,
    refine: int = 0,
    threads: int | None = None,
    device: str = "auto",
    seed: int = 0,
    on_progress: OnProgress | None = None,
) -> Registration:
    """Register the moving image to the fixed image.

    Args:
        fixed, moving: Paths, NumPy arrays, torch tensors, nibabel or SimpleITK images, or :class:`pullback.Image`;
            2-D or 3-D, any orientation and spacing.
        model: ``rigid``, ``similarity``, ``affine`` or ``deformable`` (which includes the affine).
        initial: Where to start: ``header`` (the files' world coordinates), ``centre`` (of mass), ``moments`` (principal
            axes with all flips), ``search`` (over rotations), ``none`` (the identity; with ``deformable`` the affine is
            left out), a linear transform or the file of one; several compete. Default: all of header, centre, moments
            and search compete. Weights of a network (``.safetensors``) among them are the `initial_model`.
        initial_model: Weights of a trained affine network (safetensors), whose start is tried alone first; if it does
            not look right, it competes with those of `initial`. The result says which was used, and why.
        similarity: ``mse``, ``ncc``, ``lncc``, ``mi``, ``mind``, or ``auto``: by the relation of the intensities.
        preset: ``brain`` (default), ``fast`` (stops at half resolution) or ``fine`` (more steps at full resolution).
        smoothness: Factor of the widths of smoothing of the deformation, from 0 to 10; larger is smoother.
        fixed_mask, moving_mask: Voxels to compare, on the grid of their image.
        fixed_labels, moving_labels: Label maps, to be scored before and after; they do not steer.
        fixed_points, moving_points: Corresponding landmarks in world mm (csv or :class:`pullback.Points`), by the names
            that both sides share or else in one order; scored too.
        points_in_lps: Whether files of landmarks hold ITK's LPS mm.
        label_names: What labels are called in the report.
        channel_weights: Factor of each channel of multi-channel images.
        model_file: Weights of a trained network (safetensors), which takes the place of the deformable stage; its card
            says how images are brought together before it.
        mirrored: Whether the network answers by the mean over the pair and its mirrors along the axes of its training.
        refine: Steps of the classical engine, at full resolution, from the network's answer; on lattices of fewer than
            a million voxels so many in each of three rounds.
        threads: Threads to use; the result does not depend on it. Default: all.
        device: ``cpu``, ``cuda`` or ``auto``.
        seed: Recorded. Every step is deterministic, so that no seed changes the result.
        on_progress: Called with stage, share done and a word.

    Returns:
        The registration. One that did not succeed says so in its verdict; it does not raise.

    Raises:
        ValueError: If an input cannot be registered or an option is not understood.
        FileNotFoundError: If a file does not exist.
    """
    start = time.perf_counter()
    num_threads = use_threads(threads)
    fixed, moving = image_from(fixed), image_from(moving)
    pair = Pair(
        fixed,
        moving,
        *(None if m is None else labels_from(m) for m in (fixed_mask, moving_mask, fixed_labels, moving_labels)),
        *_landmarks(fixed_points, moving_points, points_in_lps, fixed.grid.num_dims),
    )
    if label_names and pair.fixed_labels is None:
        raise ValueError("`label_names` came without labels to be called so; give `fixed_labels` and `moving_labels`.")
    words: dict[str, Any] = {
        "model": model,
        "initial": initial,
        "similarity": similarity,
        "preset": preset,
        "smoothness": smoothness,
        "channel_weights": channel_weights,
        "device": device,
        "seed": seed,
    }
    words["initial"], initial_model = learned_start(initial, initial_model)
    plan = plan_from_words(**words, fixed=fixed.grid, moving=moving.grid, num_channels=fixed.num_channels)
    if initial_model is not None:
        plan = replace(plan, first=_learned_start(initial_model, pair, plan))
        words |= {"initial_model": str(initial_model)}
    if model_file is not None:
        network, card = load_network(model_file, mirrored=mirrored)
        initial = words["initial"]
        given = {"model": model, "preset": preset, "smoothness": smoothness, "refine": refine}
        check_words_for_network(card, initial=initial, initial_model=initial_model, **given)
        plan = plan_of(network, card, pair, refine=refine, base=plan)
        words |= {"model_file": str(model_file), "refine": refine, "mirrored": mirrored}
    elif mirrored:
        raise ValueError("`mirrored` asks a network, but there is none; give `model_file` too.")
    elif refine:
        raise ValueError(f"`refine` is {refine}, but there is no network to refine; give `model_file` too.")
    read_seconds = time.perf_counter() - start
    result = run(pair, plan, on_progress=on_progress)
    result.seconds["read"] = round(read_seconds, 3)
    return Registration(pair, plan, result, {**words, "threads": num_threads}, dict(label_names or {}))


def _learned_start(weights: str | Path, pair: Pair, plan: Plan) -> Candidate:
    """The start of an affine network, for a plan that has others to fall back on."""
    if "none" in plan.methods:
        raise ValueError(
            "`initial_model` needs starts to fall back on, but `initial` is 'none' or one transform alone; leave it "
            "out, or name more."
        )
    network, card = load_network(weights)
    return predict_start(network, card, pair, device=plan.device)


def _landmarks(fixed: Any, moving: Any, lps: bool, num_dims: int) -> tuple[Points | None, Points | None]:
    """Both sides' landmarks, in one order if their names say so."""
    if lps and not any(isinstance(points, str | Path) for points in (fixed, moving)):
        raise ValueError("`points_in_lps` (--lps) is for files of landmarks, but there are none; leave it out.")
    found = [None if points is None else _points(points, lps, num_dims) for points in (fixed, moving)]
    if found[0] is None or found[1] is None:
        return found[0], found[1]
    return pair_by_name(found[0], found[1])


def _points(points: Any, lps: bool, num_dims: int) -> Points:
    if isinstance(points, Points):
        return points
    if isinstance(points, str | Path):
        return read_points(points, lps=lps, num_dims=num_dims)
    return Points(points)
