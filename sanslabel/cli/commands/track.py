"""boxes of the objects that move in a video, as data to learn from"""

from __future__ import annotations

from dataclasses import dataclass

from sanslabel.cli.flags import parse_flags
from sanslabel.settings import FrameRate

GROUP = "Data"
USAGE = "track VIDEO|FOLDER [--out tracks/]"


@dataclass(frozen=True)
class TrackFlags:
    """Follow the objects that move in a video or in folders of frames. The boxes are written in MOTChallenge's format,
    which --data reads, with a contact sheet of the longest tracks."""

    data: str
    """a video, a folder of frames, or a folder of such folders"""
    out: str = "tracks"
    """the folder to write, new or empty"""
    fps: FrameRate | None = None
    """frames a second of folders of frames; by default 25"""
    device: str | None = None
    """cpu, cuda, cuda:1, mps; by default cuda if there is one, else cpu"""


def run(arguments: list[str]) -> None:
    """Writes the tracks and prints a line for each clip."""
    flags = parse_flags(TrackFlags, "track", arguments, TrackFlags.__doc__ or "")
    from sanslabel.use.track import track
    from sanslabel.wording import counted

    for clip in track(flags.data, flags.out, fps=flags.fps, device=flags.device):
        unreadable = f", {counted(clip.unreadable, 'unreadable frame')}" if clip.unreadable else ""
        print(f"{clip.folder}: {counted(clip.tracks, 'track')} of {clip.boxes:,} boxes{unreadable}; see contact.png")
