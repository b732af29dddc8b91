"""All formats of transforms, and which of them a file is."""

from pathlib import Path

from pullback.checks import check_choice
from pullback.io import afni, elastix, freesurfer, fsl, greedy, itk_format, learn2reg, niftyreg, voxelmorph, x5
from pullback.io.atomic import suffix_of
from pullback.io.formats import AbstractFormat

FORMATS: tuple[AbstractFormat, ...] = (
    itk_format.FORMAT,
    x5.FORMAT,
    elastix.FORMAT,
    fsl.FORMAT,
    niftyreg.FORMAT,
    freesurfer.FORMAT,
    greedy.FORMAT,
    afni.FORMAT,
    learn2reg.FORMAT,
    voxelmorph.FORMAT,
)
"""One line each; the first that writes a suffix is the one that writes it when nobody says which."""


def format_named(name: str) -> AbstractFormat:
    """The format of a name.

    Raises:
        ValueError: If there is none, with the names that there are.
    """
    check_choice("format", name, tuple(form.name for form in FORMATS))
    return next(form for form in FORMATS if form.name == name)


def told(words: str) -> AbstractFormat:
    """The format of a name, or of a name and the kind of file that is to be read, such as ``fsl:absolute``.

    Raises:
        ValueError: If there is no such format or kind.
    """
    name, colon, kind = words.partition(":")
    form = format_named(name)
    return form.told(kind) if colon else form


def recognise(path: Path) -> AbstractFormat:
    """The format that a file says it is.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If its content does not say, or fits none; the message lists what it could be.
    """
    certain = certainly(path)
    if len(certain) == 1:
        return certain[0]
    if possible := certain or possibly(path):
        names = "; ".join(f"{form.name} ({form.title})" for form in possible)
        raise ValueError(
            f"'{path}' does not say which tool wrote it. It could be {names}; say which with --from (`format` in "
            "Python); where there is no such option, convert it first: pullback convert IN OUT.h5 --from NAME."
        )
    for form in FORMATS:
        if suffix_of(path) in form.suffixes:
            form.read(path, None, None)  # says what is wrong with the file
    raise ValueError(
        f"'{path}', with the suffix '{suffix_of(path)}', is no transform that is known here, or is damaged; known are "
        f"{known()}."
    )


def certainly(path: Path) -> list[AbstractFormat]:
    """The formats that the content of a file names, one or none unless two of them quarrel.

    Raises:
        FileNotFoundError: If there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"'{path}' does not exist or is a folder.")
    return [form for form in FORMATS if form.recognises(path)]


def possibly(path: Path) -> list[AbstractFormat]:
    """The formats that the content of a file fits without naming them."""
    return [form for form in FORMATS if form.could_be(path)]


def format_for(path: Path) -> AbstractFormat:
    """The format that writes a path when only its suffix is known.

    Raises:
        ValueError: If none does.
    """
    suffix = suffix_of(path)
    for form in FORMATS:
        if suffix in form.suffixes:
            return form
    raise ValueError(f"'{path}' has the suffix '{suffix}', which no format writes; written are {written()}.")


def known() -> str:
    """The names of all formats."""
    return ", ".join(form.name for form in FORMATS)


def written() -> str:
    """What is written, format by format."""
    return "; ".join(f"{form.name}: {' '.join(form.suffixes)}" for form in FORMATS)


def kinds() -> str:
    """The kinds of file of the formats that have several under one suffix."""
    return "; ".join(f"{form.name}: {', '.join(form.kinds)}" for form in FORMATS if form.kinds)
