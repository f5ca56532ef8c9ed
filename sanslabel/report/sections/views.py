"""The views of a run's last batch, and other pictures that the method makes from it."""

from __future__ import annotations

from collections.abc import Iterator

from sanslabel.errors import SanslabelError
from sanslabel.report import pictures
from sanslabel.report.last_batch import images_of_last_batch
from sanslabel.report.markup import note, strips
from sanslabel.report.snapshot import Snapshot


def views(run: Snapshot) -> Iterator[str]:
    """Yields a strip of images for each kind of view."""
    try:
        images = images_of_last_batch(run.folder)
    except SanslabelError as error:
        yield note(f"Not drawn: {error}")
        return
    yield strips({name: pictures.row(strip) for name, strip in images.items()})
    if images:
        yield note("Pictures of the last batch of training, and what training made of each of them.")
