"""One filled cache for all tests that train."""

import pytest

import small_cohort
from pullback.training.cache import Cache


@pytest.fixture(scope="package")
def cache(tmp_path_factory) -> Cache:
    return small_cohort.make_cache(tmp_path_factory.mktemp("cohort"))
