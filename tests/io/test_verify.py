"""Reading back catches a writer that errs, and distances are what they are."""

import pytest
import torch

from pullback.io import itk_format, write_transform
from pullback.io.bids import bids_path, write_sidecar
from pullback.io.formats import Written
from pullback.io.verify import domain_of, largest_difference_mm, random_points, read_back_mm
from pullback.transforms import Chain, DisplacementField, Translation, identity
from transform_files import affine, field_on, grid_of


@pytest.mark.parametrize("suffix", [".h5", ".tfm", ".mat", ".nii.gz", ".mha", ".x5"])
def test_what_is_right_passes(tmp_path, suffix):
    grid = grid_of("oblique", 3)
    transform = field_on(grid) if suffix in (".nii.gz", ".mha") else affine(3)
    written = write_transform(tmp_path / f"a{suffix}", transform, fixed=grid)
    assert read_back_mm(tmp_path / f"a{suffix}", written, fixed=grid, moving=None) < 1e-4


@pytest.mark.parametrize("suffix", [".h5", ".nii.gz"])
def test_a_writer_that_errs_is_caught(tmp_path, suffix, monkeypatch):
    grid, path = grid_of("oblique", 3), tmp_path / f"a{suffix}"
    field = field_on(grid)
    wrong = DisplacementField(field.displacement * torch.tensor([-1.0, -1.0, 1.0])[:, None, None, None], grid)
    right_records, right_field = itk_format.records_of, itk_format.field_for
    monkeypatch.setattr(itk_format, "records_of", lambda transform, where: right_records(wrong, where))
    monkeypatch.setattr(itk_format, "field_for", lambda *given: (wrong, right_field(*given)[1]))
    written = write_transform(path, field)
    with pytest.raises(OSError, match=r"read back it moves points by up to \d"):
        read_back_mm(path, written, fixed=grid, moving=None)


def test_a_file_of_nothing_but_nan_is_caught(tmp_path):
    write_transform(tmp_path / "a.tfm", identity())
    nan = Written(affine(3))
    with pytest.raises(OSError, match="do not use it"):
        read_back_mm(tmp_path / "a.tfm", nan, fixed=None, moving=None)


def test_distance_of_a_shift():
    shift = Translation.by((3.0, 4.0, 0.0))
    assert largest_difference_mm(shift, identity(), None) == pytest.approx(5.0)
    assert largest_difference_mm(shift, identity(), grid_of("oblique", 3)) == pytest.approx(5.0)


def test_points_lie_in_the_domain():
    grid = grid_of("oblique", 3)
    voxels = grid.to_voxel(random_points(grid, 3))
    last = torch.tensor(grid.shape) - 1
    assert bool(((voxels >= -1e-9) & (voxels <= last + 1e-9)).all())
    assert domain_of(Chain((affine(3), field_on(grid))), None) is grid
    assert domain_of(affine(3), None) is None


def test_bids_names(tmp_path):
    path = bids_path(tmp_path, "sub-01_ses-2_from-T1w_to-MNI152", ".h5")
    assert path.name == "sub-01_ses-2_from-T1w_to-MNI152_mode-image_xfm.h5"
    sidecar = write_sidecar(path, format_title="ITK", fixed=tmp_path / "f.nii", moving=None, source="a.mat")
    assert sidecar.name == "sub-01_ses-2_from-T1w_to-MNI152_mode-image_xfm.json"
    for wrong in ("sub-01", "01_from-a_to-b", "sub-01_from-a", "sub-01_from-a_to-b/c", "sub-0_1_from-a_to-b"):
        with pytest.raises(ValueError, match="`bids` is"):
            bids_path(tmp_path, wrong, ".h5")
    with pytest.raises(ValueError, match="need different names"):
        bids_path(tmp_path, "sub-01_from-A_to-A", ".h5")
