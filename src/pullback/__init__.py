"""pullback aligns medical images: the map both ways, the resampled image, and numbers that say whether to trust it."""

__version__ = "0.1.0"
