"""Prepared scans for commands that work on many of them; needs no library that reads images once a cache is filled."""

import sys
from collections.abc import Callable
from pathlib import Path

from pullback.training.cache import Cache, fill, open_cache
from pullback.training.recipe import Recipe
from pullback.training.sources import manifest_of, split_of
from pullback.training.teacher import teach


def prepared_scans(recipe: Recipe | None, data: Path | None, folder: Path, *, quiet: bool) -> Cache:
    """The cache in a folder, filled from the data if they are given.

    Args:
        recipe: Says what is in the data and how it is prepared; needed with `data`.
        data: Folder that the recipe's paths are relative to.
        folder: Of the cache.
        quiet: Say nothing about how it goes.

    Raises:
        FileNotFoundError: If there are no data, or no prepared scans without data.
        ValueError: If a scan does not suit the recipe.
    """
    if data is None or recipe is None:
        return open_cache(folder)
    manifest = manifest_of(recipe.source, data)

    def says(doing: str) -> Callable[[int, int, str], None]:
        def tell(number: int, total: int, name: str) -> None:
            if not quiet and number % 20 == 0:
                print(f"{doing} {number} of {total}: {name}", file=sys.stderr, flush=True)

        return tell

    folder.parent.mkdir(parents=True, exist_ok=True)
    split, scans_from = split_of(recipe.split, manifest, data), {"source": recipe.source, "split": recipe.split}
    filled = fill(folder, manifest, split, recipe.preprocessing, says("preparing"), scans_from=scans_from)
    if recipe.teacher is None:
        return filled
    taught = teach(filled, manifest, recipe, says("registering"))
    num_failed = sum(taught.failed(pair) for pair in taught.maps) // 2
    if num_failed and not quiet:
        print(f"left out {num_failed} of {len(taught.maps) // 2} pairs, whose registration failed", file=sys.stderr)
    return taught
