"""Sources of samples: sets that ship with the package, arrays in files, and images in folders and archives."""

from sanslabel.sources.arrays import Arrays
from sanslabel.sources.data import AnyData, Data, TextChoices, data_of
from sanslabel.sources.loader import batches, ordered
from sanslabel.sources.opening import Split, location, locations, names, open_source, splits
from sanslabel.sources.pairs import Pairs, paired
from sanslabel.sources.source import Loaded, Request, Source

__all__ = [
    "AnyData",
    "Arrays",
    "Data",
    "Loaded",
    "Pairs",
    "Request",
    "Source",
    "Split",
    "TextChoices",
    "batches",
    "data_of",
    "location",
    "locations",
    "names",
    "open_source",
    "ordered",
    "paired",
    "splits",
]
