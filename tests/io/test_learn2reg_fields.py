"""Displacements of Learn2Reg, both versions."""

import nibabel
import numpy as np
import pytest
import torch
from scipy import ndimage

from examples import smooth_noise
from pullback.io import read_voxel_displacement, write_voxel_displacement

SHAPE = (8, 6, 10)


def test_what_was_written_is_read(tmp_path):
    displacement = smooth_noise(3, *SHAPE, largest=4)
    write_voxel_displacement(tmp_path / "disp_0001_0002.nii.gz", displacement)
    assert nibabel.load(tmp_path / "disp_0001_0002.nii.gz").shape == (*SHAPE, 3)
    assert torch.equal(read_voxel_displacement(tmp_path / "disp_0001_0002.nii.gz", SHAPE), displacement)


def test_arrays_in_npz(tmp_path):
    full = smooth_noise(3, *SHAPE).numpy()
    np.savez(tmp_path / "a.npz", np.moveaxis(full, 0, -1))
    np.savez(tmp_path / "b.npz", field=full)
    for name in ("a.npz", "b.npz"):
        assert np.array_equal(read_voxel_displacement(tmp_path / name, SHAPE).numpy(), full)


def test_the_first_version_is_enlarged_without_scaling(tmp_path):
    half = smooth_noise(3, *(n // 2 for n in SHAPE)).numpy().astype(np.float16)
    np.savez_compressed(tmp_path / "a.npz", half)
    expected = np.stack([ndimage.zoom(c.astype(np.float32), 2, order=2) for c in half])
    assert np.array_equal(read_voxel_displacement(tmp_path / "a.npz", SHAPE).numpy(), expected)


def test_errors(tmp_path):
    np.savez(tmp_path / "two.npz", np.zeros(3), np.zeros(3))
    np.savez(tmp_path / "nan.npz", np.full((*SHAPE, 3), np.nan))
    np.savez(tmp_path / "object.npz", np.array([{}], dtype=object))
    (tmp_path / "broken.nii.gz").write_bytes(b"nothing")
    write_voxel_displacement(tmp_path / "a.nii.gz", torch.zeros(3, *SHAPE))
    for name, message in [
        ("two.npz", "one array alone"),
        ("nan.npz", "not finite"),
        ("object.npz", "damaged"),
        ("broken.nii.gz", "corrupt"),
        ("a.h5", "no displacement of Learn2Reg"),
    ]:
        with pytest.raises(ValueError, match=message):
            read_voxel_displacement(tmp_path / name, SHAPE)
    with pytest.raises(ValueError, match="give the image that it was made for"):
        read_voxel_displacement(tmp_path / "a.nii.gz", (9, 9, 9))
    with pytest.raises(FileNotFoundError):
        read_voxel_displacement(tmp_path / "none.npz", SHAPE)
    with pytest.raises(ValueError, match="is needed"):
        write_voxel_displacement(tmp_path / "a.nii.gz", torch.zeros(2, 4, 4))
    with pytest.raises(ValueError, match="suffix"):
        write_voxel_displacement(tmp_path / "a.npz", torch.zeros(3, 4, 4, 4))
