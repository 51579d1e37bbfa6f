"""Images to train and evaluate on: `load` a set by name, or bring your own `Dataset`."""

from drawnet.data.dataset import from_dataset
from drawnet.data.images import SPLITS, DataError, Images
from drawnet.data.sources import SOURCES, load

__all__ = ["SOURCES", "SPLITS", "DataError", "Images", "from_dataset", "load"]
