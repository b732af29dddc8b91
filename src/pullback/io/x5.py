"""X5, the HDF5 transforms of nitransforms and of the BIDS draft.

The file holds a group ``TransformGroup`` with one numbered node per transform, in RAS mm, fixed to moving, and may hold
chains in ``TransformChain``: node numbers with slashes between them, of which the first acts first. A B-spline has the
lattice's matrix as ``AdditionalParameters``; it is cubic.
"""

import json
from pathlib import Path

import h5py
import numpy as np
import torch

from pullback.io.atomic import replacing
from pullback.io.formats import AbstractFormat, Written, damaged, flatten, in_words, matrix_of
from pullback.space import Grid
from pullback.transforms import AbstractTransform, Affine, BSpline, Chain, DisplacementField
from pullback.version import __version__

NODES = "TransformGroup"
CHAINS = "TransformChain"
VERSION = 1
TROUBLE = (OSError, KeyError, TypeError, ValueError, IndexError, AttributeError, UnicodeDecodeError)


class X5Format(AbstractFormat):
    """Files of ``Format`` X5."""

    name = "x5"
    title = "X5 of nitransforms: HDF5, RAS mm"
    suffixes = (".x5",)

    def recognises(self, path: Path) -> bool:
        """By the attribute ``Format`` of an HDF5 file."""
        try:
            with h5py.File(path, "r") as file:
                return file.attrs.get("Format") in ("X5", b"X5")
        except OSError:
            return False

    def read(self, path: Path, fixed: Grid | None, moving: Grid | None) -> AbstractTransform:
        """Read the only transform, or the only chain; the grids are not needed."""
        with damaged(path, "X5 file", TROUBLE), h5py.File(path, "r") as file:
            if file.attrs["Format"] not in ("X5", b"X5") or int(file.attrs["Version"]) != VERSION:
                raise ValueError(f"it is no X5 of version {VERSION}")
            parts = [_read_node(file[NODES][number]) for number in _order(file)]
        return parts[0] if len(parts) == 1 else Chain(tuple(parts))

    def write(
        self, path: Path, transform: AbstractTransform, fixed: Grid | None, moving: Grid | None, kind: str | None = None
    ) -> Written:
        """Write every part as a node, and a chain of them if there are several; `fixed` becomes a matrix's domain."""
        self.check_kind(kind)
        parts = flatten(transform)
        for part in parts:
            _check(part, path)
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            file.attrs["Format"] = "X5"
            file.attrs["Version"] = np.uint16(VERSION)
            for number, part in enumerate(parts):
                _write_node(file.create_group(f"{NODES}/{number}"), part, fixed)
            if len(parts) > 1:
                file[f"{CHAINS}/0"] = "/".join(str(number) for number in reversed(range(len(parts))))
        return Written(transform)


def _check(part: AbstractTransform, path: Path) -> None:
    if isinstance(part, BSpline) and part.order != 3:
        raise ValueError(f"'{path}' cannot hold a B-spline of order {part.order}: X5's are cubic.")
    if not isinstance(part, BSpline | DisplacementField) and matrix_of(part) is None:
        raise ValueError(
            f"'{path}' cannot hold a {in_words(part)}: X5 holds matrices, displacement fields and B-splines; evaluate "
            "it on a grid first."
        )


def _order(file: h5py.File) -> list[str]:
    """Numbers of the nodes to chain, outermost first."""
    chains = file.get(CHAINS, {})
    if len(chains) == 1:
        text = next(iter(chains.values()))[()]
        return (text.decode() if isinstance(text, bytes) else str(text)).split("/")[::-1]
    if len(chains) > 1 or len(file[NODES]) != 1:
        raise ValueError(f"it holds {len(file[NODES])} transforms and {len(chains)} chains, but one is needed")
    return list(file[NODES])


def _write_node(group: h5py.Group, part: AbstractTransform, fixed: Grid | None) -> None:
    group.attrs["ArrayLength"] = 1
    group.attrs["Metadata"] = json.dumps({"WrittenBy": f"pullback {__version__}"})
    group["DimensionKinds"] = np.array(["space"] * part.num_dims + ["vector"], dtype="S")
    if isinstance(part, DisplacementField | BSpline):
        is_field = isinstance(part, DisplacementField)
        group.attrs["Type"] = "nonlinear"
        group.attrs["SubType"], group.attrs["Representation"] = (
            ("densefield", "displacements") if is_field else ("bspline", "coefficients")
        )
        vectors = part.displacement if is_field else part.coefficients
        group["Transform"] = vectors.detach().cpu().movedim(0, -1).numpy()
        if not is_field:
            group["AdditionalParameters"] = part.grid.voxel_to_world.numpy()
        _write_domain(group, part.grid if is_field or fixed is None else fixed)
        return
    group.attrs["Type"], group.attrs["SubType"], group.attrs["Representation"] = "linear", "affine", "matrix"
    group["Transform"] = matrix_of(part).numpy()
    if fixed is not None:
        _write_domain(group, fixed)


def _write_domain(group: h5py.Group, grid: Grid) -> None:
    domain = group.create_group("Domain")
    domain.attrs["Coordinates"] = "cartesian"
    domain["Grid"] = np.uint8(1)
    domain["Size"] = np.array(grid.shape)
    domain["Mapping"] = grid.voxel_to_world.numpy()


def _read_node(group: h5py.Group) -> AbstractTransform:
    kind, values = group.attrs["Type"], group["Transform"][()]
    if int(group.attrs.get("ArrayLength", 1)) != 1:
        raise ValueError("it holds a series of transforms, one per time point; extract one")
    if kind == "linear":
        return Affine(values.reshape(values.shape[-2:]))
    if kind != "nonlinear":
        raise ValueError(f"it holds a node of the type '{kind}', but linear or nonlinear is needed")
    vectors = torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, -1, 0)))
    shape = tuple(vectors.shape[1:])
    if group.attrs.get("SubType") == "bspline":
        return BSpline(vectors, Grid(shape, group["AdditionalParameters"][()]))
    grid = Grid(shape, group["Domain/Mapping"][()])
    if group.attrs["Representation"] == "deformations":  # absolute positions
        vectors = vectors - grid.centres().movedim(-1, 0).to(vectors)
    return DisplacementField(vectors, grid)


FORMAT = X5Format()
