"""digit-pairs: handwritten digits, each with another digit of its class."""

from sanslabel.sources import open_source as open_other
from sanslabel.sources.pairs import Pairs
from sanslabel.sources.source import Wanted

NAMES = ("digit-pairs",)


def splits(data) -> tuple[str, ...] | None:
    """Returns the splits of the digits."""
    return ("train", "test") if data in NAMES else None


def open_source(data, split: str, wanted: Wanted) -> Pairs | None:
    """Returns digits of which those of one class form groups."""
    if data not in NAMES:
        return None
    digits = open_other("digits", split)
    return Pairs(base=digits, group=digits.labels, reach=100)
