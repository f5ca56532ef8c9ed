"""Claims on run folders: one process at a time trains in a folder."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from sanslabel import checkpoint
from sanslabel.errors import BadInput, DiskError
from sanslabel.run_folder import RunFolder
from sanslabel.training.disk_space import check_disk_space
from sanslabel.training.lock import locked, refuse_if_locked
from sanslabel.training.session import Session


def new_folder(out: Path | None, method: str, data: str) -> Path:
    """Returns the folder for a new run, by default the first free one of runs/METHOD-DATA-NUMBER. Raises BadInput if
    `out` exists already and is not empty."""
    if out is None:
        return next(p for n in range(1, 10**6) if not (p := Path("runs") / f"{method}-{data}-{n}").exists())
    if out.exists() and (not out.is_dir() or _begun(out)):
        refuse_if_locked(out)  # another process may have begun to train there since the first check
        raise BadInput(f"{out}: exists already; name another folder with --out, or continue it with --resume {out}.")
    return out


def claim(stack: ExitStack, folder: RunFolder, session: Session, fresh: bool) -> None:
    """Locks the run folder until the stack is closed, and removes files that a killed run left half-written. A fresh
    run gets its run.json. Raises BadInput if another process claimed the folder first, and DiskError if files cannot be
    removed or written."""
    run = folder.path
    stack.enter_context(locked(run))
    if fresh and _begun(run):
        raise BadInput(f"{run}: another process began a run here; name another folder with --out.")
    try:
        checkpoint.sweep(run)
        checkpoint.sweep(run / "checkpoints")
    except OSError as error:
        raise DiskError(
            f"{run}: the unfinished files of an earlier start could not be removed ({error}); remove them."
        ) from error
    check_disk_space(run, session.net, session.players)
    if fresh:
        folder.write()


def _begun(run: Path) -> bool:
    """Returns True if a run has begun in the folder. A lock and a half-written run.json alone do not count: a run that
    was killed before it began leaves them."""
    return bool({path.name for path in run.iterdir()} - {".lock", ".run.json.part"})
