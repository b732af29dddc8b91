"""The examples in the docstrings of the lower floors run and say what they print."""

import doctest
import importlib
import pkgutil

import pytest

import pullback

PARTS = ("checks", "space", "data", "functional", "transforms", "similarity", "regularity", "metrics")


def modules_of(part: str) -> list[str]:
    module = importlib.import_module(f"pullback.{part}")
    below = pkgutil.walk_packages(getattr(module, "__path__", []), module.__name__ + ".")
    return [module.__name__, *(info.name for info in below)]


@pytest.mark.parametrize("name", [name for part in PARTS for name in modules_of(part)])
def test_examples_run(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_examples_are_found():
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for test in finder.find(pullback.space.grid, "grid") if test.examples]
    assert found
