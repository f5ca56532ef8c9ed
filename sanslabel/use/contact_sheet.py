"""Contact sheets: a row of pictures for each track, to see at a glance whether it shows one object."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

ROWS, COLUMNS = 24, 12
"""tracks that are shown, the longest ones, and pictures of each"""
SIDE, LABEL = 64, 72
"""side of a picture, and width of the column with numbers, in pixels"""
AROUND = 1.25
"""side that is shown, as a factor of the box's longer side"""

Box = tuple[int, int, list[float], float]
"""frame from 1 on, number of the track, corners in pixels, correlation"""


def write_contact_sheet(boxes: Sequence[Box], pictures: Path, file: Path) -> None:
    """Writes a PNG with pictures of the longest tracks at even distances in time, left to right."""
    by_track: dict[int, list[Box]] = {}
    for box in sorted(boxes):
        by_track.setdefault(box[1], []).append(box)
    longest = sorted(by_track.values(), key=len, reverse=True)[:ROWS]
    names = {int(os.path.splitext(name)[0]): name for name in os.listdir(pictures)}
    sheet = Image.new("RGB", (LABEL + COLUMNS * SIDE, len(longest) * SIDE), "white")
    draw = ImageDraw.Draw(sheet)
    cells: dict[int, list[tuple[int, int, list[float]]]] = {}
    for row, track in enumerate(longest):
        draw.text((4, row * SIDE + 8), f"track {track[0][1]}\n{len(track)} frames\nfrom {track[0][0]}", "black")
        for column in range(COLUMNS):
            frame, _, corners, _ = track[column * (len(track) - 1) // (COLUMNS - 1)]
            cells.setdefault(frame, []).append((column, row, corners))
    for frame in sorted(cells.keys() & names.keys()):
        with Image.open(pictures / names[frame]) as opened:
            picture = opened.convert("RGB")
        for column, row, (left, top, right, bottom) in cells[frame]:
            half = AROUND * max(right - left, bottom - top, 1) / 2
            x, y = (left + right) / 2, (top + bottom) / 2
            square = picture.crop((round(x - half), round(y - half), round(x + half), round(y + half)))
            sheet.paste(square.resize((SIDE, SIDE)), (LABEL + column * SIDE, row * SIDE))
    sheet.save(file)
