"""Names and sidecars of BIDS derivatives for transforms.

``sub-01_from-T1w_to-MNI152_mode-image_xfm.h5`` resamples the image of space T1w into space MNI152: T1w is the moving
space, MNI152 the fixed one, and points go the other way.
"""

import re
from pathlib import Path

from pullback.io.atomic import suffix_of
from pullback.io.json_text import write_json
from pullback.version import __version__

NAME = re.compile(
    r"(?P<subject>sub-[0-9A-Za-z]+)(?P<session>_ses-[0-9A-Za-z]+)?"
    r"_from-(?P<moving>[0-9A-Za-z+]+)_to-(?P<fixed>[0-9A-Za-z+]+)"
)


def bids_path(folder: Path, entities: str, suffix: str) -> Path:
    """The file in a folder that BIDS foresees.

    Args:
        folder: Where.
        entities: Such as ``sub-01_from-T1w_to-MNI152`` or ``sub-01_ses-2_from-T1w_to-MNI152``; ``from`` is the moving
            space and ``to`` the fixed one.
        suffix: Such as ``.h5``.

    Raises:
        ValueError: If the entities are not of that form, or both spaces have the same name: then the transform and the
            way back would be one file.

    Example:
        >>> bids_path(Path("xfm"), "sub-01_from-T1w_to-MNI152", ".h5").as_posix()
        'xfm/sub-01_from-T1w_to-MNI152_mode-image_xfm.h5'
    """
    found = NAME.fullmatch(entities)
    if not found:
        raise ValueError(
            f"`bids` is '{entities}', but the form sub-LABEL[_ses-LABEL]_from-MOVING_to-FIXED is needed, letters and "
            "digits only, such as sub-01_from-T1w_to-MNI152."
        )
    if found["moving"] == found["fixed"]:
        raise ValueError(
            f"`bids` is '{entities}', with '{found['fixed']}' for both spaces, but the moving and the fixed space need "
            "different names; otherwise the transform and the way back would be one file."
        )
    return folder / f"{entities}_mode-image_xfm{suffix}"


def inverse_entities(entities: str) -> str:
    """The entities of the transform back: both spaces change places.

    Raises:
        ValueError: If the entities are not of the form that :func:`bids_path` takes.

    Example:
        >>> inverse_entities("sub-01_from-T1w_to-MNI152")
        'sub-01_from-MNI152_to-T1w'
    """
    bids_path(Path(), entities, "")
    found = NAME.fullmatch(entities)
    return f"{found['subject']}{found['session'] or ''}_from-{found['fixed']}_to-{found['moving']}"


def sidecar_path(path: Path) -> Path:
    """The JSON file beside a transform.

    Example:
        >>> sidecar_path(Path("sub-01_from-T1w_to-MNI152_mode-image_xfm.nii.gz")).name
        'sub-01_from-T1w_to-MNI152_mode-image_xfm.json'
    """
    return path.with_name(path.name[: -len(suffix_of(path))] + ".json")


def write_sidecar(path: Path, *, format_title: str, fixed: Path | None, moving: Path | None, source: str) -> Path:
    """Write the JSON file beside a transform that says what it is.

    Args:
        path: The transform, named by :func:`bids_path`.
        format_title: What kind of file it is, in words.
        fixed: The fixed image's file, the spatial reference, if known.
        moving: The moving image's file, if known.
        source: Where the transform comes from.
    """
    found = NAME.match(path.name)
    spaces = {} if found is None else {"FromSpace": found["moving"], "ToSpace": found["fixed"]}
    content = {
        "Description": "Resamples images of the 'from' space into the 'to' space; points go the other way.",
        **spaces,
        "Format": format_title,
        "GeneratedBy": [{"Name": "pullback", "Version": __version__}],
        "Sources": [source],
        "SpatialReference": None if fixed is None else str(fixed),
        "MovingImage": None if moving is None else str(moving),
    }
    sidecar = sidecar_path(path)
    write_json(sidecar, {key: value for key, value in content.items() if value is not None})
    return sidecar
