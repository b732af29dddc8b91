"""From the words of a recipe to scans and their split."""

from pathlib import Path

from pullback.training.manifest import Manifest, read_bids, read_globs, read_learn2reg, read_manifest
from pullback.training.recipe import Source, SplitPlan
from pullback.training.splits import Split, by_folds, by_fractions, from_file, from_manifest


def manifest_of(source: Source, data: Path) -> Manifest:
    """The scans of a source, whose paths are relative to a folder.

    Raises:
        FileNotFoundError: If the folder or the table does not exist.
    """
    path = data / source.path
    if not path.exists():
        raise FileNotFoundError(f"'{path}' does not exist; give the folder of the data with --data.")
    if source.format == "table":
        manifest = read_manifest(path)
    elif source.format == "learn2reg":
        manifest = read_learn2reg(path)
    elif source.format == "bids":
        manifest = read_bids(path, suffix=source.suffix, labels_suffix=source.labels_suffix)
    else:
        manifest = read_globs(path, source.images, source.labels, source.subject)
    return manifest.same_person(source.same_person) if source.same_person else manifest


def split_of(plan: SplitPlan, manifest: Manifest, data: Path) -> Split:
    """The split that a plan asks for."""
    if plan.by == "fractions":
        return by_fractions(manifest, plan.fractions, seed=plan.seed)
    if plan.by == "folds":
        return by_folds(manifest, plan.num_folds, plan.fold, seed=plan.seed)
    if plan.by == "file":
        return from_file(manifest, data / plan.path)
    return from_manifest(manifest)
