"""The image, sound and video files below a folder, remembered between runs, so that a million are listed once."""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from sanslabel.errors import BadInput

SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
SOUNDS = frozenset({".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf"})
"""suffixes of sound files"""
VIDEOS = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".ogv", ".wmv", ".flv"}
    | {".3gp", ".3g2"}
)
"""suffixes of video files"""
UNREAD = frozenset(
    {".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd", ".pdf", ".eps", ".dcm", ".exr"}
    | {".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf"}
)
"""suffixes of pictures that are not read"""
TABLES = frozenset({".csv", ".parquet"})
"""suffixes of tables, which may state labels"""

OTHER = "/"
"""the key of files whose suffix is not counted by itself; no suffix has a slash"""
STRAY = 10
"""pictures for each stray sound among them, and sounds for each stray picture"""
NAMED = 3
"""most suffixes that a remark names"""
FORMAT = 1
REMEMBERED_FROM = 1000
"""smallest number of files whose listing is kept; listing fewer takes some ten milliseconds"""
SETTLED = 2_000_000_000
"""nanoseconds; a folder changed less than this before it was listed may change again without a new time stamp"""


class Listing(NamedTuple):
    """The files below a folder."""

    names: list[str]
    """sorted paths of all files with an image's suffix, relative to the folder, with forward slashes"""
    left_out: dict[str, int]
    """the number of other files, sounds among them, by suffix in lower case; those beyond the most frequent suffixes
    count as "other" """
    sounds: Sequence[str] = ()
    """sorted paths of all files with a sound's suffix"""
    videos: Sequence[str] = ()
    """sorted paths of all files with a video's suffix"""

    @property
    def kind(self) -> Literal["pictures", "sounds", "both", "videos"]:
        """Returns the kind of files to read. If one file in eleven or fewer is of the other kind, it is left out.
        Videos are read only if there is nothing else."""
        if self.videos and not self.names and not self.sounds:
            return "videos"
        if not self.sounds or STRAY * len(self.sounds) < len(self.names):
            return "pictures"
        return "sounds" if STRAY * len(self.names) < len(self.sounds) else "both"

    @property
    def without_sounds(self) -> dict[str, int]:
        """Returns the number of files that are neither pictures nor sounds, by suffix as in `left_out`."""
        return self._left_out_without(SOUNDS, len(self.sounds))

    @property
    def of_sounds(self) -> Listing:
        """Returns the sounds as the files, with the pictures among those that are left out."""
        pictures = Counter(os.path.splitext(name)[1].lower() for name in self.names)
        return Listing(list(self.sounds), {**self.without_sounds, **pictures})

    @property
    def of_videos(self) -> Listing:
        """Returns the videos as the files."""
        return Listing(list(self.videos), self._left_out_without(VIDEOS, len(self.videos)))

    def _left_out_without(self, suffixes: Collection[str], count: int) -> dict[str, int]:
        """Returns the numbers of `left_out` without those of `count` files that have these suffixes."""
        others = {suffix: number for suffix, number in self.left_out.items() if suffix not in suffixes}
        others[OTHER] = others.get(OTHER, 0) - count + sum(self.left_out.get(suffix, 0) for suffix in suffixes)
        return {suffix: number for suffix, number in others.items() if number > 0}

    @property
    def remarks(self) -> tuple[str, ...]:
        """Returns a sentence about the files that are left out: pictures first, then the most frequent suffixes. A
        second one follows if labels may be among them."""
        kinds = sorted(self.left_out.items(), key=lambda kind: (kind[0] not in UNREAD, kind[0] == OTHER, -kind[1]))
        total = sum(self.left_out.values())
        named = [f"{count:,} {_kind(suffix)}" for suffix, count in kinds[:NAMED] if suffix != OTHER]
        more = total - sum(count for suffix, count in kinds[:NAMED] if suffix != OTHER)
        if not total:
            return ()
        counted = ", ".join([*named, *([f"{more:,} {'other' if named else 'of other kinds'}"] if more else [])])
        remarks = [f"Files that are not read: {counted}."]
        if not TABLES.isdisjoint(self.left_out):
            remarks.append("If a table among them states labels, name it with --labels.")
        return tuple(remarks)

    def without(self, root: Path, file: Path | None) -> Listing:
        """Returns the listing of a folder without a file that is read for its labels, if that lies in the folder."""
        if file is None or not file.resolve().is_relative_to(root.resolve()):
            return self
        left_out = Counter(self.left_out)
        left_out[file.suffix.lower()] -= 1
        return self._replace(left_out=dict(+left_out))


class _Folders(NamedTuple):
    """The folders below the root, whose times show whether files were added or removed."""

    paths: list[str]
    times: np.ndarray
    """(M,) int64, time of last change in ns, read before the folder's files were listed"""


def listing(root: Path) -> Listing:
    """Returns the files below a folder, at any depth.

    Hidden files and folders are left out, and links are followed. A folder counts once, however many links lead to it.
    Raises BadInput if a folder cannot be listed.
    """
    memory = _memory(root)
    now = time.time_ns()
    files = _remembered(root, memory)
    if files is None:
        files, folders = _walked(root)
        if (
            len(files.names) + len(files.sounds) + len(files.videos) >= REMEMBERED_FROM
            and folders.times.max() < now - SETTLED
        ):
            _remember(files, folders, memory)
    if heic := sum(files.left_out.get(suffix, 0) for suffix in (".heic", ".heif")):
        warnings.warn(f"{root}: {heic:,} HEIC pictures are left out; convert them to JPEG to use them", stacklevel=2)
    return files


def cache_folder() -> Path:
    """Returns the user's folder for files that can be made again."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home, "sanslabel")


def _walked(root: Path) -> tuple[Listing, _Folders]:
    files: list[str] = []
    sounds: list[str] = []
    videos: list[str] = []
    others = Counter[str]()
    folders: list[tuple[str, int]] = []
    visited: set[tuple[int, int]] = set()
    pending, links = [""], []
    kinds = ((SUFFIXES, files), (SOUNDS, sounds), (VIDEOS, videos))
    while pending or links:
        folder = pending.pop() if pending else links.pop()  # links last, so that a folder gets its path without links
        try:
            status = os.stat(root / folder)
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            folders.append((folder, status.st_mtime_ns))
            with os.scandir(root / folder) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    if entry.name.startswith("."):
                        continue
                    path = f"{folder}/{entry.name}" if folder else entry.name
                    # For a link that leads in a circle, entry.is_dir() raises, and os.path.isdir() returns False.
                    link = entry.is_symlink()
                    if os.path.isdir(entry.path) if link else entry.is_dir():
                        (links if link else pending).append(path)
                        continue
                    suffix = os.path.splitext(path)[1].lower()
                    others[suffix] += suffix not in SUFFIXES
                    of_kind = next((names for suffixes, names in kinds if suffix in suffixes), None)
                    if of_kind is not None and (os.path.isfile(entry.path) if link else entry.is_file()):
                        of_kind.append(path)
        except OSError as error:
            raise BadInput(f"{root / folder} cannot be listed ({error.strerror}); make it readable.") from error
    changed = np.array([changed for _, changed in folders], np.int64)
    listed = Listing(sorted(files), _frequent(+others), sorted(sounds), sorted(videos))
    return listed, _Folders([path for path, _ in folders], changed)


def _frequent(others: Counter[str]) -> dict[str, int]:
    """Returns the counts of pictures' suffixes and of the most frequent others, and the sum of the rest as `OTHER`."""
    kept = {suffix: count for suffix, count in others.items() if suffix in UNREAD}
    kept |= dict(others.most_common(NAMED))
    rest = others.total() - sum(kept.values())
    return kept | ({OTHER: rest} if rest else {})


def _kind(suffix: str) -> str:
    return suffix[1:].upper() if suffix.isprintable() and 1 < len(suffix) < 10 else "of another kind"


def _memory(root: Path) -> Path:
    """Returns the file that the listing of this folder is remembered in."""
    return cache_folder() / "listings" / (hashlib.sha256(os.fsencode(root.absolute())).hexdigest() + ".npz")


def _remembered(root: Path, memory: Path) -> Listing | None:
    """Returns the listing of an earlier run, if no folder in it has changed since."""
    try:
        with memory.open("rb") as file, np.load(file, allow_pickle=False) as content:
            if int(content["format"]) != FORMAT:
                return None
            times, folders = content["folder_times"].tolist(), unpacked_strings(content["folders"])
            for folder, changed in zip(folders, times, strict=True):
                if os.stat(root / folder).st_mtime_ns != changed:
                    return None
            suffixes, counts = unpacked_strings(content["suffixes"]), content["counts"].tolist()
            left_out = dict(zip(suffixes, counts, strict=True))
            names, sounds, videos = (unpacked_strings(content[name]) for name in ("paths", "sounds", "videos"))
            return Listing(names, left_out, sounds, videos)
    except Exception:  # missing or damaged in any way: list again
        return None


def _remember(files: Listing, folders: _Folders, memory: Path) -> None:
    remember_arrays(
        memory,
        format=np.array(FORMAT),
        paths=packed_strings(files.names),
        sounds=packed_strings(list(files.sounds)),
        videos=packed_strings(list(files.videos)),
        suffixes=packed_strings(list(files.left_out)),
        counts=np.array(list(files.left_out.values()), np.int64),
        folders=packed_strings(folders.paths),
        folder_times=folders.times,
    )


def remember_arrays(memory: Path, **arrays: np.ndarray) -> None:
    """Writes arrays to an .npz file in one step, for later runs. If the disk refuses, nothing is written: the file only
    saves time."""
    temporary = memory.with_suffix(f".{os.getpid()}")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]
        os.replace(temporary, memory)
    except OSError:
        with suppress(OSError):
            temporary.unlink()


def packed_strings(strings: list[str]) -> np.ndarray:
    """Returns the bytes of names in the file system, which need not be valid text, with a zero after each, as uint8."""
    content = bytearray()
    for begin in range(0, len(strings), 10_000):  # a million at once would take three times the memory
        content += os.fsencode("\0".join([*strings[begin : begin + 10_000], ""]))
    return np.frombuffer(content, np.uint8)


def unpacked_strings(content: np.ndarray) -> list[str]:
    """Returns the names that `packed_strings` has packed."""
    return os.fsdecode(content.tobytes()).split("\0")[:-1]
