"""Conventional affine registrations, by any of whom the truth of the study can be made, and that are timed beside it.

Each takes a fixed and a moving image in memory and gives the world map from fixed to moving. FLIRT may be at the
user's: its matrices are read from a folder of files named by the scan (``1000.mat``).
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from peers import GREEDY_AFFINE
from pullback.data import Image, Pair
from pullback.io import read_transform, write_image
from pullback.registration import Plan, RegistrationResult, conclusion, register
from pullback.transforms import AbstractTransform, Affine

Tool = Callable[[Image, Image], AbstractTransform]
FLIRT = "flirt:"
"""Before the folder of FLIRT's matrices, in place of a tool's name."""


def conventional(fixed: Image, moving: Image) -> RegistrationResult:
    """Our affine registration from headers and centres of mass, without the search for rivals that verdicts make."""
    with mock.patch.object(conclusion, "margin_over_rivals", return_value=1.0):
        return register(Pair(fixed, moving), Plan(methods=("header", "centre"), deformable=None))


def ours(fixed: Image, moving: Image) -> AbstractTransform:
    """The map of :func:`conventional`."""
    return conventional(fixed, moving).linear


def ours_with_verdict(fixed: Image, moving: Image) -> AbstractTransform:
    """Our affine registration as users run it: all starts, and the search for rivals."""
    return register(Pair(fixed, moving), Plan(deformable=None)).linear


def greedy(fixed: Image, moving: Image, *, threads: int = 1) -> AbstractTransform:
    """picsl-greedy's affine."""
    from picsl_greedy import Greedy3D

    tool = Greedy3D()
    images = {"fixed": _simpleitk(fixed), "moving": _simpleitk(moving)}
    tool.execute(GREEDY_AFFINE.format(threads=threads), **images, matrix=None)
    return Affine(tool["matrix"])


def ants(fixed: Image, moving: Image) -> AbstractTransform:
    """Antspyx's ``Affine``."""
    import ants as antspyx

    with TemporaryDirectory() as folder:
        read = [antspyx.image_read(str(path)) for path in _files(Path(folder), fixed, moving)]
        made = antspyx.registration(*read, type_of_transform="Affine", outprefix=f"{folder}/")
        return read_transform(made["fwdtransforms"][0])


def elastix(fixed: Image, moving: Image) -> AbstractTransform:
    """itk-elastix's default ``affine`` parameters; threads as the environment says (see ``peers_more.py``)."""
    import itk

    parameters = itk.ParameterObject.New()
    settings = parameters.GetDefaultParameterMap("affine")
    settings["AutomaticTransformInitialization"] = ["true"]  # the middles of the images together, as greedy's call does
    parameters.AddParameterMap(settings)
    with TemporaryDirectory() as folder:
        read = [itk.imread(str(path), itk.F) for path in _files(Path(folder), fixed, moving)]
        _, made = itk.elastix_registration_method(*read, parameter_object=parameters, log_to_console=False)
        path = Path(folder) / "TransformParameters.0.txt"
        made.WriteParameterFile(str(path))
        return read_transform(path)


TOOLS: dict[str, Tool] = {"ours": ours, "greedy": greedy, "antspyx": ants, "elastix": elastix}
"""By whom the truth can be made."""


def tool_of(name: str, scan: str) -> Tool:
    """The tool of a name, or the reader of FLIRT's matrix of a scan.

    Raises:
        ValueError: If there is no such tool.
    """
    if name.startswith(FLIRT):
        return partial(_read_flirt, Path(name.removeprefix(FLIRT)) / f"{scan}.mat")
    if name not in TOOLS:
        raise ValueError(f"`truth` is '{name}', but it can be {', '.join(TOOLS)} or {FLIRT}FOLDER.")
    return TOOLS[name]


def _read_flirt(path: Path, fixed: Image, moving: Image) -> AbstractTransform:
    """A matrix that FLIRT made with the template as reference and the scan as input."""
    return read_transform(path, fixed=fixed.grid, moving=moving.grid, format="fsl")


def _files(folder: Path, fixed: Image, moving: Image) -> list[Path]:
    paths = [folder / "fixed.nii", folder / "moving.nii"]
    for path, image in zip(paths, (fixed, moving), strict=True):
        write_image(path, image)
    return paths


def _simpleitk(image: Image) -> Any:
    import SimpleITK

    with TemporaryDirectory() as folder:
        write_image(Path(folder) / "image.nii", image)
        return SimpleITK.ReadImage(f"{folder}/image.nii", SimpleITK.sitkFloat32)
