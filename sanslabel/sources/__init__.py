"""Sources of samples: sets that ship with the package, arrays in files, and images in folders and archives."""

from sanslabel.sources.arrays import Arrays
from sanslabel.sources.loader import batches, ordered
from sanslabel.sources.opening import Split, location, names, open_source, splits
from sanslabel.sources.pairs import Pairs
from sanslabel.sources.source import Loaded, Request, Source

__all__ = [
    "Arrays",
    "Loaded",
    "Pairs",
    "Request",
    "Source",
    "Split",
    "batches",
    "location",
    "names",
    "open_source",
    "ordered",
    "splits",
]
