"""DICOM series through SimpleITK: a folder of slices, or any one slice of it.

A series of one slice, such as a radiograph, is a 2-D image, as in NIfTI. The step from slice to slice is taken from the
slices' positions, so a tilted gantry gives a sheared grid and not a silently straightened one.
"""

from pathlib import Path

import SimpleITK
import torch

from pullback.io.itk import swap_lps
from pullback.io.simpleitk import damaged, from_simpleitk
from pullback.io.slices import matrix_in_plane
from pullback.io.values import Raw
from pullback.space import Grid

SUFFIXES = (".dcm", ".ima", ".dicom")
SERIES_TAG, POSITION_TAG = "0020|000e", "0020|0032"
LARGEST_STEP_ERROR = 0.1
"""Part of the slice distance by which a step between slices may differ from the mean one."""


def is_dicom(path: Path) -> bool:
    """Whether a file says that it is DICOM, whatever its name."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read(path: Path) -> Raw:
    """Read a series as channels on a grid.

    Args:
        path: A folder with one series, or one file of a series; its folder may then hold others.

    Raises:
        ValueError: If there is no series or more than one, a slice is damaged or missing, or there are several times.
    """
    files = _files_of(path)
    with damaged(path):
        image = SimpleITK.ReadImage(files) if len(files) > 1 else SimpleITK.ReadImage(files[0])
    raw = from_simpleitk(image, str(path))
    if raw.grid.num_dims == 3 and raw.grid.shape[2] == 1:
        return _as_slice(raw, str(path))
    matrix = _matrix_with_step(raw.grid.voxel_to_world, files, str(path))
    return Raw(raw.array, Grid(raw.grid.shape, matrix), raw.header | {"format": "dicom"}, raw.notes)


def _files_of(path: Path) -> list[str]:
    """The files of a series in the order of their positions."""
    folder = path if path.is_dir() else path.parent
    with damaged(path):
        series = SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
        wanted = series if path.is_dir() else [uid for uid in series if uid == _tag(path, SERIES_TAG)]
        files = [SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), uid) for uid in wanted]
    if not files or not files[0]:
        raise ValueError(f"'{path}' holds no DICOM series; give the folder of the slices or one of them.")
    if len(files) > 1:
        first = ", ".join(f"'{Path(names[0]).name}'" for names in files[:5])
        raise ValueError(f"'{path}' holds {len(files)} DICOM series; give one file of the wanted one, such as {first}.")
    return list(files[0])


def _tag(path: Path | str, tag: str) -> str:
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else ""


def _matrix_with_step(matrix: torch.Tensor, files: list[str], where: str) -> torch.Tensor:
    """Put the true step between slices into the third column of the matrix."""
    with damaged(where):
        positions = [_tag(file, POSITION_TAG) for file in files]
    if len(files) < 2 or not all(positions):
        return matrix
    points = swap_lps(torch.tensor([[float(x) for x in text.split("\\")] for text in positions], dtype=torch.float64))
    steps = torch.diff(points, dim=0)
    step = steps.mean(dim=0)
    errors = torch.linalg.vector_norm(steps - step, dim=1) / torch.linalg.vector_norm(step).clamp(min=1e-9)
    if errors.max() > LARGEST_STEP_ERROR:
        sizes = sorted({round(float(size), 3) for size in torch.linalg.vector_norm(steps, dim=1)})
        raise ValueError(
            f"'{where}' has slices at uneven distances ({', '.join(map(str, sizes[:6]))} mm): slices are missing, or "
            "several "
            "times or echoes are mixed; complete or separate them, for instance with dcm2niix."
        )
    matrix = matrix.clone()
    matrix[:3, 2] = step
    return matrix


def _as_slice(raw: Raw, where: str) -> Raw:
    matrix, notes = matrix_in_plane(raw.grid.voxel_to_world.numpy(), where)
    grid = Grid(raw.grid.shape[:2], torch.from_numpy(matrix))
    return Raw(raw.array[..., 0], grid, raw.header | {"format": "dicom"}, (*raw.notes, *notes))
