"""Parameter files of elastix and transformix (``TransformParameters.0.txt``).

Each file holds one transform in LPS mm, fixed to moving, and may name the file of the one that acts before it. The
linear ones and the B-splines have the parameters of the ITK transforms that they wrap.
"""

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.linalg
import torch

from pullback.io.atomic import replacing
from pullback.io.formats import AbstractFormat, Written, flatten, grid_for, in_words, matrix_of
from pullback.io.itk import SPLINE_KIND, Record, affine_record, grid_to_itk, records_of, transform_of
from pullback.space import Grid
from pullback.transforms import AbstractTransform, Affine, BSpline, Chain

Entries = dict[str, list[str]]
ENTRY = re.compile(r"^\s*\(\s*(\w+)\s+(.*?)\s*\)\s*(//.*)?$", re.MULTILINE)
WORD = re.compile(r'"([^"]*)"|(\S+)')
TRANSFORM = re.compile(rb"^\s*\(\s*Transform\s+\"", re.MULTILINE)
NO_INITIAL = ("NoInitialTransform", "")
INITIAL_KEYS = ("InitialTransformParameterFileName", "InitialTransformParametersFileName")
"""The spelling since elastix 5.1, and the one before."""
NUM_LARGEST_START = 1 << 22
WHY_FIXED = "elastix keeps the geometry of the fixed image with the parameters"


class ElastixFormat(AbstractFormat):
    """Transform parameter files."""

    name = "elastix"
    title = "elastix: TransformParameters.txt, linear and B-spline"
    suffixes = (".txt",)

    def recognises(self, path: Path) -> bool:
        """By the entries ``(Transform "...")`` and ``(TransformParameters ...)``."""
        with path.open("rb") as file:
            start = file.read(NUM_LARGEST_START)
        return TRANSFORM.search(start) is not None and b"(NumberOfParameters" in start

    def read(self, path: Path, fixed: Grid | None, moving: Grid | None) -> AbstractTransform:
        """Read a file and those it names as acting before; the grids are not needed."""
        parts = _read_chain(path, ())
        return parts[0] if len(parts) == 1 else Chain(tuple(parts))

    def write(
        self, path: Path, transform: AbstractTransform, fixed: Grid | None, moving: Grid | None, kind: str | None = None
    ) -> Written:
        """Write one matrix (as AffineTransform) or one B-spline."""
        self.check_kind(kind)
        parts, matrix = flatten(transform), matrix_of(transform)
        if matrix is None and not (len(parts) == 1 and isinstance(parts[0], BSpline)):
            raise ValueError(
                f"'{path}' cannot hold a {in_words(transform)}: a parameter file of elastix holds one matrix or one "
                "B-spline; write the parts one by one, or use .h5."
            )
        grid = grid_for(fixed, "fixed", path, WHY_FIXED)
        entries = _spline_entries(parts[0], path) if matrix is None else _affine_entries(matrix)
        with replacing(path) as temporary:
            temporary.write_text(_text({**entries, **_image_entries(grid, path)}), encoding="utf-8")
        return Written(parts[0] if matrix is None else Affine(matrix))


def _read_chain(path: Path, above: tuple[Path, ...]) -> list[AbstractTransform]:
    """The transforms of a file and of those it names, outermost first."""
    if path in above:
        raise ValueError(f"'{path}' names itself as its own initial transform.")
    entries = _entries(path)
    parts: list[AbstractTransform] = [_transform(entries, path)]
    name = next((entries[key][0] for key in INITIAL_KEYS if entries.get(key)), NO_INITIAL[0])
    if name in NO_INITIAL:
        return parts
    if entries.get("HowToCombineTransforms", ["Compose"])[0] != "Compose":
        raise ValueError(f"'{path}' adds its displacement to that of '{name}', but only Compose can be read.")
    return parts + _read_chain(_initial(name, path), (*above, path))


def _initial(name: str, path: Path) -> Path:
    """The named file where it says, or beside the one that names it."""
    for candidate in (Path(name), path.parent / name, path.parent / Path(name).name):
        if candidate.is_file() and candidate != path:
            return candidate
    raise FileNotFoundError(f"'{path}' builds on the initial transform '{name}', which is not there; put it beside.")


def _entries(path: Path) -> Entries:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is no parameter file of elastix: it is not text.") from error
    entries = {key: [a or b for a, b in WORD.findall(words)] for key, words, _ in ENTRY.findall(text)}
    for key in ("Transform", "TransformParameters", "FixedImageDimension", "MovingImageDimension"):
        if not entries.get(key):
            raise ValueError(f"'{path}' is truncated, or no parameter file of elastix: it has no entry ({key} ...).")
    return entries


def _transform(entries: Entries, path: Path) -> AbstractTransform:
    kind, num_dims = entries["Transform"][0], int(entries["FixedImageDimension"][0])
    if num_dims not in (2, 3) or entries["MovingImageDimension"] != entries["FixedImageDimension"]:
        raise ValueError(
            f"'{path}' maps {num_dims}-D to {entries['MovingImageDimension'][0]}-D, but 2-D to 2-D or 3-D to 3-D is "
            "needed."
        )
    if kind not in READERS:
        raise ValueError(f"'{path}' holds a '{kind}', but of elastix only {', '.join(READERS)} can be read.")
    _check_directions(entries, num_dims, path)
    parameters = _numbers(entries, "TransformParameters", None, path)
    return transform_of([READERS[kind](entries, num_dims, parameters, path)], str(path))


def _check_directions(entries: Entries, num_dims: int, path: Path) -> None:
    """Without direction cosines elastix works in a world of its own, which only a straight image shares with ours."""
    if entries.get("UseDirectionCosines", ["true"])[0] != "false":
        return
    if not np.allclose(_numbers(entries, "Direction", num_dims**2, path), np.eye(num_dims).ravel()):
        raise ValueError(f"'{path}' ignores the direction of a turned image (UseDirectionCosines false); run it again.")


def _numbers(entries: Entries, key: str, count: int | None, path: Path) -> np.ndarray:
    try:
        numbers = np.array([float(word) for word in entries.get(key, [])])
    except ValueError:
        raise ValueError(f"'{path}' holds in ({key} ...) something else than numbers.") from None
    if count is not None and len(numbers) != count:
        raise ValueError(f"'{path}' holds {len(numbers)} numbers in ({key} ...), but {count} are needed.")
    return numbers


def _translation(entries: Entries, num_dims: int, parameters: np.ndarray, path: Path) -> Record:
    return Record(f"TranslationTransform_double_{num_dims}_{num_dims}", np.zeros(0), parameters)


def _centred(itk_name: str) -> Callable[[Entries, int, np.ndarray, Path], Record]:
    """A reader of a kind that turns about a centre, named as in ITK but for the number of dimensions."""

    def record(entries: Entries, num_dims: int, parameters: np.ndarray, path: Path) -> Record:
        centre = _numbers(entries, "CenterOfRotationPoint", num_dims, path)
        name = itk_name.format(num_dims)
        if name == "Euler3DTransform":
            centre = np.append(centre, float(entries.get("ComputeZYX", ["false"])[0] == "true"))
        return Record(f"{name}_double_{num_dims}_{num_dims}", centre, parameters)

    return record


def _affine_log(entries: Entries, num_dims: int, parameters: np.ndarray, path: Path) -> Record:
    """The matrix is the exponential of the one in the file."""
    if len(parameters) != num_dims * (num_dims + 1):
        raise ValueError(f"'{path}' holds {len(parameters)} parameters for its AffineLogTransform; it is truncated.")
    logarithm, translation = np.split(parameters, [num_dims**2])
    linear = scipy.linalg.expm(logarithm.reshape(num_dims, num_dims))
    return _centred("AffineTransform")(entries, num_dims, np.concatenate([linear.ravel(), translation]), path)


def _spline(entries: Entries, num_dims: int, parameters: np.ndarray, path: Path) -> Record:
    if entries.get("UseCyclicTransform", ["false"])[0] == "true":
        raise ValueError(f"'{path}' holds a cyclic B-spline, which repeats along its last axis; it cannot be read.")
    size, spacing, origin = (_numbers(entries, f"Grid{key}", num_dims, path) for key in ("Size", "Spacing", "Origin"))
    direction = _transposed(_numbers(entries, "GridDirection", num_dims**2, path))
    start = _numbers(entries, "GridIndex", num_dims, path)
    origin = origin + direction.reshape(num_dims, num_dims) @ (start * spacing)
    order = int(entries.get("BSplineTransformSplineOrder", ["3"])[0])
    kind = f"{SPLINE_KIND}_double_{num_dims}_{num_dims}{'' if order == 3 else f'_{order}'}"
    return Record(kind, np.concatenate([size, origin, spacing, direction]), parameters)


def _transposed(direction: np.ndarray) -> np.ndarray:
    """Turn cosines row by row, as ITK writes them, into column by column, as elastix does, or back."""
    size = math.isqrt(len(direction))
    return direction.reshape(size, size).T.ravel()


READERS: dict[str, Callable[[Entries, int, np.ndarray, Path], Record]] = {
    "TranslationTransform": _translation,
    "EulerTransform": _centred("Euler{}DTransform"),
    "SimilarityTransform": _centred("Similarity{}DTransform"),
    "AffineTransform": _centred("AffineTransform"),
    "AffineLogTransform": _affine_log,
    "BSplineTransform": _spline,
    "RecursiveBSplineTransform": _spline,
}
"""Kinds of elastix, and the ITK record that maps points in the same way."""


def _affine_entries(matrix: torch.Tensor) -> dict[str, object]:
    record = affine_record(matrix)
    return {"Transform": "AffineTransform", **_parameters(record), "CenterOfRotationPoint": record.fixed}


def _spline_entries(spline: BSpline, path: Path) -> dict[str, object]:
    (record,) = records_of(spline, str(path))
    num_dims = spline.num_dims
    size, origin, spacing, direction = np.split(record.fixed, np.cumsum([num_dims] * 3))
    return {
        "Transform": "BSplineTransform",
        **_parameters(record),
        "BSplineTransformSplineOrder": [spline.order],
        "GridSize": size.astype(int),
        "GridIndex": [0] * num_dims,
        "GridSpacing": spacing,
        "GridOrigin": origin,
        "GridDirection": _transposed(direction),
        "UseCyclicTransform": "false",
    }


def _parameters(record: Record) -> dict[str, object]:
    return {
        "NumberOfParameters": [len(record.parameters)],
        "TransformParameters": record.parameters,
        "InitialTransformParameterFileName": NO_INITIAL[0],
        "HowToCombineTransforms": "Compose",
    }


def _image_entries(grid: Grid, path: Path) -> dict[str, object]:
    """What transformix wants to know about the images, with its own defaults for resampling."""
    spacing, origin, direction = grid_to_itk(grid, str(path))
    num_dims = grid.num_dims
    dimensions = {"FixedImageDimension": [num_dims], "MovingImageDimension": [num_dims]}
    pixels = {"FixedInternalImagePixelType": "float", "MovingInternalImagePixelType": "float"}
    geometry = {"Size": grid.shape, "Index": [0] * num_dims, "Spacing": spacing, "Origin": origin}
    resampling = {
        "Resampler": "DefaultResampler",
        "ResampleInterpolator": "FinalBSplineInterpolator",
        "FinalBSplineInterpolationOrder": [3],
        "DefaultPixelValue": [0],
        "ResultImageFormat": "nii",
        "ResultImagePixelType": "float",
        "CompressResultImage": "false",
    }
    return {
        **dimensions,
        **pixels,
        **geometry,
        "Direction": _transposed(np.array(direction)),
        "UseDirectionCosines": "true",
        **resampling,
    }


def _text(entries: dict[str, object]) -> str:
    return "".join(f"({key} {_words(value)})\n" for key, value in entries.items())


def _words(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else " ".join(repr(x) for x in np.asarray(value).tolist())


FORMAT = ElastixFormat()
