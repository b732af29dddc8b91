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
SERIES_TAG, POSITION_TAG, CLASS_TAG = "0020|000e", "0020|0032", "0008|0016"
HEADER_BYTES = 1024
"""Within which a file says of which class it is."""
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
    _check_none_is_damaged(path, folder, [name for names in files for name in names])
    return list(files[0])


def _check_none_is_damaged(path: Path, folder: Path, listed: list[str]) -> None:
    """GDCM passes over slices that it cannot read, and a volume without its first or last slice looks whole."""
    known = {Path(name).name for name in listed}
    class_uid = _tag(listed[0], CLASS_TAG).encode()
    for file in sorted(folder.iterdir()):
        if file.name not in known and file.is_file() and _is_damaged_slice(file, class_uid):
            raise ValueError(
                f"'{path}' holds a slice that is truncated or corrupt, '{file.name}'; copy or export it again, or take "
                "it away if it does not belong there."
            )


def _is_damaged_slice(path: Path, class_uid: bytes) -> bool:
    """Whether a file that is not of the series should be: it cannot be read, and is of the slices' class or of none.

    Contours, reports and the like are of other classes, and DICOMDIR has no suffix.
    """
    with path.open("rb") as file:
        start = file.read(HEADER_BYTES)
    is_named = path.suffix.lower() in SUFFIXES
    is_cut_short = is_named and (start[128:132] != b"DICM" or len(start) < HEADER_BYTES)
    if not is_cut_short and not (start[128:132] == b"DICM" and class_uid and class_uid in start):
        return False
    try:
        _reader(path)
    except RuntimeError:
        return True
    return False


def _reader(path: Path | str) -> SimpleITK.ImageFileReader:
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader


def _tag(path: Path | str, tag: str) -> str:
    reader = _reader(path)
    return reader.GetMetaData(tag).strip() if reader.HasMetaDataKey(tag) else ""


def _positions(files: list[str]) -> list[list[float]]:
    """Of the slices, LPS mm: where they say so, or else where their readers say; none where these know nothing."""
    readers = [_reader(file) for file in files]
    if all(reader.HasMetaDataKey(POSITION_TAG) for reader in readers):
        texts = [reader.GetMetaData(POSITION_TAG).strip() for reader in readers]
        return [[float(x) for x in text.split("\\")] for text in texts] if all(texts) else []
    found = [list(reader.GetOrigin()) for reader in readers]
    return found if all(len(point) == 3 for point in found) and found[0] != found[-1] else []


def _matrix_with_step(matrix: torch.Tensor, files: list[str], where: str) -> torch.Tensor:
    """Put the true step between slices into the third column of the matrix."""
    with damaged(where):
        positions = _positions(files)
    if len(positions) < 2:
        return matrix
    points = swap_lps(torch.tensor(positions, dtype=torch.float64))
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
