"""ITK's transform files, HDF5, text and MATLAB level 4, as lists of records in ITK's order (outermost first)."""

import platform
import struct
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import scipy.io
import SimpleITK
from scipy.io.matlab import MatReadError

from pullback.io.atomic import replacing
from pullback.io.formats import damaged
from pullback.io.itk import Record

COMPOSITE = "CompositeTransform"
GROUP = "TransformGroup"
TEXT_HEADER = "#Insight Transform File V1.0"
SPELLINGS = ("Transform", "Tranform")
"""ITK before 5 misspelled the names of its parameters."""
KIND = "ITK transform"
TROUBLE = (MatReadError, OSError, KeyError, IndexError, TypeError, ValueError, EOFError, struct.error, MemoryError)


def read_hdf5(path: Path) -> list[Record]:
    """Read ``.h5``: one transform, or a composite, also of composites.

    Raises:
        ValueError: If the file is damaged.
    """
    with damaged(path, KIND, TROUBLE), h5py.File(path, "r") as file:
        groups = sorted(file[GROUP].items(), key=lambda item: int(item[0]))
        records = [_record_from_hdf5(group) for _, group in groups]
    return _without_composite(records, path)


def write_hdf5(path: Path, records: Sequence[Record]) -> None:
    """Write a composite as ITK does, uncompressed: fields are noise to a compressor, and it would take seconds."""
    leader = _composite(records, path)
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        _write_text(file, "ITKVersion", SimpleITK.Version.ITKVersionString().removeprefix("ITK "))
        _write_text(file, "HDFVersion", f"HDF5 library version: {h5py.version.hdf5_version}")
        _write_text(file, "OSName", platform.system())
        _write_text(file, "OSVersion", platform.release())
        group = file.create_group(GROUP)
        _write_text(group, "0/TransformType", leader.kind)
        for n, record in enumerate(records, start=1):
            _write_text(group, f"{n}/TransformType", record.kind)
            group[f"{n}/TransformFixedParameters"] = record.fixed
            group[f"{n}/TransformParameters"] = record.parameters


def read_text(path: Path) -> list[Record]:
    """Read ``.txt`` or ``.tfm``: one transform, or a composite, also of composites.

    Raises:
        ValueError: If the file is not of that kind, or holds several transforms without saying their order.
    """
    with damaged(path, KIND, TROUBLE):
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        if not lines or not lines[0].startswith("#Insight Transform File"):
            raise ValueError(f"its first line is not '{TEXT_HEADER}'")
        records = _records_from_lines(lines)
    return _without_composite(records, path)


def write_text(path: Path, records: Sequence[Record]) -> None:
    """Write one transform, or several as a composite, as text, to the last bit."""
    if len(records) > 1:
        records = [_composite(records, path), *records]
    lines = [TEXT_HEADER]
    for number, record in enumerate(records):
        lines += [f"#Transform {number}", f"Transform: {record.kind}"]
        if record.name != COMPOSITE:
            lines.append(f"Parameters: {' '.join(map(repr, record.parameters.tolist()))}")
            lines.append(f"FixedParameters: {' '.join(map(repr, record.fixed.tolist()))}")
    with replacing(path) as temporary:
        temporary.write_text("\n".join([*lines, ""]), encoding="utf-8")


def read_matlab(path: Path) -> list[Record]:
    """Read ``.mat`` as ANTs writes it (``0GenericAffine.mat``).

    Raises:
        ValueError: If it is not MATLAB level 4; FSL's and greedy's ``.mat`` are text of another meaning.
    """
    start = path.read_bytes()[:64]
    if start and start.isascii() and b"\0" not in start:
        raise ValueError(
            f"'{path}' is a text matrix, as FSL and greedy write, but an ITK MATLAB file is needed; convert it "
            "first, for instance with c3d_affine_tool -oitk."
        )
    with damaged(path, KIND, TROUBLE):
        contents = {name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")}
        fixed = contents.pop("fixed").ravel()
        ((kind, parameters),) = contents.items()
    return _without_composite([Record(kind, fixed, parameters.ravel())], path)


def write_matlab(path: Path, record: Record) -> None:
    """Write one linear transform as MATLAB level 4."""
    contents = {record.kind: record.parameters[:, None], "fixed": record.fixed[:, None]}
    with replacing(path) as temporary:
        scipy.io.savemat(temporary, contents, format="4", appendmat=False)


def _composite(records: Sequence[Record], path: Path) -> Record:
    """The record that stands before the parts of a composite and holds nothing."""
    num_dims = records[0].num_dims(str(path))
    return Record(f"{COMPOSITE}_double_{num_dims}_{num_dims}", np.zeros(0), np.zeros(0))


def _record_from_hdf5(group: h5py.Group) -> Record:
    kind = group["TransformType"][0]
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if kind.startswith(COMPOSITE):
        return Record(kind, np.zeros(0), np.zeros(0))
    spelling = next(word for word in SPELLINGS if f"{word}Parameters" in group or word == SPELLINGS[-1])
    return Record(kind, group[f"{spelling}FixedParameters"][()], group[f"{spelling}Parameters"][()])


def _write_text(group: h5py.Group, name: str, text: str) -> None:
    group.create_dataset(name, data=[text], dtype=h5py.string_dtype("ascii"))


def _records_from_lines(lines: list[str]) -> list[Record]:
    records: list[dict[str, str]] = []
    for line in lines:
        key, _, value = line.partition(":")
        if key == "Transform":
            records.append({"Transform": value.strip()})
        elif key in ("Parameters", "FixedParameters"):
            records[-1][key] = value
    return [
        Record(record["Transform"], *(_numbers(record.get(key, "")) for key in ("FixedParameters", "Parameters")))
        for record in records
    ]


def _numbers(text: str) -> np.ndarray:
    return np.array([float(word) for word in text.split()])


def _without_composite(records: list[Record], path: Path) -> list[Record]:
    """Drop the records of composites, which hold nothing, also of composites in composites.

    The parts of a composite follow it, so that leaving out those inside another changes neither the order nor the map:
    products may be bracketed in any way. ITK reads such files; it writes none.

    Raises:
        ValueError: If nothing follows a composite, or several transforms stand in a file without one.
    """
    if len(records) > 1 and records[0].name != COMPOSITE:
        raise ValueError(
            f"'{path}' holds {len(records)} transforms but no composite that gives their order; write one each."
        )
    if records and records[-1].name == COMPOSITE:
        raise ValueError(f"'{path}' ends with a composite without parts: they were not written, or it is truncated.")
    return [record for record in records if record.name != COMPOSITE]
