"""Tuxpaint's stamps with their spoken names, as benches may use them."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from bench.debian import Package, unpacked

TUXPAINT = Package(
    "tuxpaint-stamps-default", "2022.06.04-1", "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34"
)
LANGUAGES = ("bg", "fr", "ro", "ru")
"""languages of recordings that are used"""
MIRRORED = ("_mirror", "_flip", "_mirror_flip")
"""ends of the names of second pictures of a stamp"""
KEPT = 5
"""every so many stamps, one is left out"""


class Stamp(NamedTuple):
    """A picture and the recordings of its name."""

    picture: Path
    """a .png file, or an .svg file if there is no other"""
    category: str
    """the folder, with its folder above: animals/birds"""
    text: str
    """the English name in small letters; empty if no file states it"""

    def recording(self, language: str) -> Path | None:
        """Returns the file in which somebody says the name, or None."""
        file = self.picture.with_name(f"{self.picture.stem}_desc_{language}.ogg")
        return file if file.is_file() else None


def stamps(cache: Path) -> list[Stamp]:
    """Returns the stamps that may be used, in the order of their names.

    Of the 950 stamps in sorted order, those whose number is a multiple of 5 are left out, counted from 0 or from 1, and
    by their names with or without suffix: they are kept for other measurements.
    """
    root = unpacked(TUXPAINT, cache) / "usr/share/tuxpaint/stamps"
    pictures: dict[str, Path] = {}
    for picture in sorted(root.rglob("*.svg")) + sorted(root.rglob("*.png")):  # of both, the .png file
        if not picture.stem.endswith(MIRRORED):
            pictures[str(picture.relative_to(root).with_suffix(""))] = picture
    orders = sorted(pictures), sorted(pictures, key=lambda name: str(pictures[name]))
    kept = {name for order in orders for n, name in enumerate(order) if n % KEPT == 0 or (n + 1) % KEPT == 0}
    used = []
    for name in orders[0]:
        if name not in kept:
            file = root / f"{name}.txt"
            text = file.read_text(errors="replace").partition("\n")[0].casefold() if file.is_file() else ""
            used.append(Stamp(pictures[name], "/".join(Path(name).parts[:2][: len(Path(name).parts) - 1]), text))
    return used
