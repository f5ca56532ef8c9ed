"""Claims on run folders: one process at a time trains in a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from sanslabel import checkpoint
from sanslabel.errors import BadInput, DiskError
from sanslabel.run_folder import RunFolder
from sanslabel.sources.texts.tokenizer import FILE as VOCABULARY
from sanslabel.training.disk_space import check_disk_space
from sanslabel.training.lock import locked, refuse_if_locked
from sanslabel.training.session import Session

OWN = ("run.json", VOCABULARY, "metrics.jsonl", "bad_samples.jsonl", "not_finite.jsonl", ".lock")
"""files that a run may have written before its first checkpoint"""


def new_folder(out: Path | None, method: str, data: str) -> Path:
    """Returns the folder for a new run, by default the first free one of runs/METHOD-DATA-NUMBER. Raises BadInput if
    `out` exists already and is not empty."""
    if out is None:
        return next(p for n in range(1, 10**6) if not (p := Path("runs") / f"{method}-{data}-{n}").exists())
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out}: exists already and is no folder; name a new folder with --out.")
    if out.exists() and _begun(out):
        refuse_if_locked(out)  # another process may have begun to train there since the first check
        raise BadInput(f"{out}: exists already {_content(out)}")
    return out


def claim(stack: ExitStack, folder: RunFolder, session: Session, fresh: bool) -> None:
    """Locks the run folder until the stack is closed, and removes files that a killed run left half-written.

    A fresh run gets the files that its data need, such as a vocabulary, and its run.json. If it then fails before it
    has saved anything, its folder is removed. Raises BadInput if another process claimed the folder first, and
    DiskError if files cannot be removed or written.
    """
    run = folder.path
    new = [path for path in (run, *run.parents) if not path.exists()]
    stack.enter_context(locked(run))
    if fresh:
        if _begun(run):
            raise BadInput(f"{run}: another process began a run here; name another folder with --out.")
        _check_free(run, session.source.files)
        stack.enter_context(_undone_without_a_step(run, new))
    try:
        checkpoint.sweep(run)
        checkpoint.sweep(run / "checkpoints")
    except OSError as error:
        raise DiskError(
            f"{run}: the unfinished files of an earlier start could not be removed ({error}); remove them."
        ) from error
    check_disk_space(run, session.net, session.players)
    if fresh:
        for name, content in session.source.files.items():
            checkpoint.write_file(run / name, content)
        folder.write()


@contextmanager
def _undone_without_a_step(run: Path, new: Sequence[Path]) -> Iterator[None]:
    """Context manager that removes the files of a fresh run if it fails without a checkpoint and without a figure.

    new: folders that this start has made, the deepest first. They are removed if nothing else is in them. Files of
    other names, links and folders that were there before stay.
    """
    try:
        yield
    except BaseException:
        metrics, saved = run / "metrics.jsonl", run / "checkpoints"
        if not checkpoint.checkpoints(saved) and not (metrics.exists() and metrics.stat().st_size):
            if not saved.is_symlink():
                with suppress(OSError):
                    checkpoint.sweep(saved)
                    saved.rmdir()
            for path in [run / name for name in OWN]:
                if not path.is_symlink():
                    with suppress(OSError):
                        path.unlink()  # the lock is among them, and still held
            for folder in new:
                with suppress(OSError):
                    folder.rmdir()
        raise


def _check_free(run: Path, files: Mapping[str, bytes]) -> None:
    """Raises BadInput if a file of another content stands where a run would write one."""
    for name, content in files.items():
        path = run / name
        if path.is_symlink() or (path.exists() and (not path.is_file() or path.read_bytes() != content)):
            raise BadInput(f"{path}: is in the way; move it, or name another folder with --out.")


def _content(out: Path) -> str:
    """Returns the end of the sentence that refuses a folder: its content, and the way out."""
    if not (out / "run.json").exists():
        return "and has other files in it; name a new folder with --out."
    folder = RunFolder.open(out)
    if folder.unfinished:
        return f"with a run that has not ended; continue it with {folder.resume_command}, or name another --out."
    return "with a finished run; name another folder with --out, or remove this one."


def _begun(run: Path) -> bool:
    """Returns True if a run has begun in the folder. A lock, a vocabulary and half-written files alone do not count: a
    run that was killed before it began leaves them."""
    before = {".lock", VOCABULARY, f".{VOCABULARY}.part", ".run.json.part"}
    return bool({path.name for path in run.iterdir()} - before)
