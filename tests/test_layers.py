"""The floors of the house: nobody imports from above or from next door, and each foreign package has one owner."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import pullback

ROOT = Path(pullback.__file__).parent

FLOORS: list[set[str]] = [
    {"types", "checks", "version"},
    {"space"},
    {"data"},
    {"kernels"},
    {"functional"},
    {"transforms", "similarity", "regularity", "metrics"},
    {"io", "networks"},
    {"registration", "landmarks"},
    {"training"},
    {"evaluation"},
    {"reports"},
    {"pairwise"},
    {"cohort"},
    {"cli"},
    {"__main__"},
]
"""Lowest first. A part of the package that is not listed here fails: decide where it stands, then list it."""

OWNERS: dict[str, str] = {
    "matplotlib": "reports",
    "nibabel": "io",
    "SimpleITK": "io",
    "h5py": "io",
    "numba": "kernels",
    "onnxruntime": "networks",
}
"""Foreign packages that one part alone may import."""

ALLOWED: dict[str, set[str]] = {}
"""Files (relative to the package) that may import foreign packages they do not own, such as ``threads.py: {numba}``."""

FLOOR_OF = {part: number for number, parts in enumerate(FLOORS) for part in parts}
FILES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))


def part_of(file: str) -> str:
    """The folder or module right below the package; the package's own ``__init__`` is the roof above all."""
    return Path(file).parts[0].removesuffix(".py")


def imports_of(tree: ast.Module) -> Iterator[str]:
    """Dotted names of everything imported anywhere, inside functions and by string too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and name_of(node.func) in ("import_module", "__import__"):
            yield from (str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant))


def name_of(function: ast.expr) -> str:
    """The last name of what is called."""
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def offences(file: str, source: str) -> list[str]:
    """What a file does that its place in the house does not allow."""
    tree = ast.parse(source)
    here = part_of(file)
    if here != "__init__" and here not in FLOOR_OF:
        return [f"{file}: the part '{here}' is not in FLOORS"]
    found = [offence for name in imports_of(tree) if (offence := import_offence(file, here, name))]
    calls = [n.func for n in ast.walk(tree) if isinstance(n, ast.Call)]
    if here != "cli" and any(isinstance(call, ast.Name) and call.id == "print" for call in calls):
        found.append(f"{file} prints; only cli does")
    if "align_corners" in source and file != "functional/reference.py":
        found.append(f"{file} speaks of align_corners; only functional/reference.py may")
    return found


def import_offence(file: str, here: str, name: str) -> str | None:
    """What is wrong with one import, or None."""
    top, *rest = name.split(".")
    if not top:
        return f"{file} imports relatively; write the name in full"
    if top in OWNERS and here != OWNERS[top] and top not in ALLOWED.get(file, set()):
        return f"{file} imports {top}; only {OWNERS[top]} may"
    if top != "pullback" or here == "__init__" or rest == ["__version__"]:
        return None
    there = rest[0] if rest else ""
    if there not in FLOOR_OF:
        return f"{file} imports {name}, whose part is not in FLOORS"
    if there != here and FLOOR_OF[there] >= FLOOR_OF[here]:
        return f"{file} imports {name}, which stands on its own floor or above"
    return None


@pytest.mark.parametrize("file", FILES)
def test_every_file_keeps_to_its_floor(file):
    assert offences(file, (ROOT / file).read_text(encoding="utf-8")) == []


def test_there_are_files_to_look_at():
    assert {"space", "functional", "transforms"} <= {part_of(file) for file in FILES}


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("space/grid.py", "import pullback.data"),
        ("space/grid.py", "from pullback.data import Image"),
        ("space/grid.py", "from pullback import data"),
        ("space/grid.py", "def f():\n    from pullback.data.image import Image"),
        ("space/grid.py", "if TYPE_CHECKING:\n    from pullback.data import Image"),
        ("space/grid.py", "importlib.import_module('pullback.cli')"),
        ("transforms/warp.py", "from pullback.similarity import NCC"),
        ("io/nifti.py", "from pullback.networks import UNet"),
        ("checks.py", "from pullback.types import Points"),
        ("checks.py", "from pullback.version import __version__"),
        ("space/grid.py", "from . import axes"),
        ("space/grid.py", "from pullback.utils import clamp"),
        ("space/grid.py", "import pullback"),
        ("utils/clamp.py", "x = 1"),
        ("registration/linear.py", "import matplotlib.pyplot as plt"),
        ("functional/sample.py", "from numba import njit"),
        ("cli/main.py", "import SimpleITK"),
        ("reports/page.py", "import nibabel as nib"),
        ("data/image.py", "import h5py"),
        ("registration/linear.py", "def f():\n    print('level 1')"),
        ("functional/sample.py", "grid_sample(x, align_corners=False)"),
    ],
)
def test_a_climb_is_seen(file, source):
    assert len(offences(file, source)) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("__init__.py", "from pullback.registration import register"),
        ("cli/main.py", "from pullback import __version__\nfrom pullback.reports import page\nprint(__version__)"),
        ("transforms/warp.py", "from pullback.transforms.chain import chain\nfrom pullback import functional"),
        ("io/nifti.py", "import nibabel, h5py, SimpleITK, numpy, torch"),
        ("kernels/windows.py", "from numba import njit"),
        ("registration/linear.py", "self.print(1)"),
    ],
)
def test_what_is_allowed_is_let_through(file, source):
    assert offences(file, source) == []
