"""The views of a run's last batch, and other pictures that the method makes from it."""

from __future__ import annotations

from collections.abc import Iterator

from sanslabel.errors import SanslabelError
from sanslabel.report import charts, pictures
from sanslabel.report.last_batch import images_of_last_batch
from sanslabel.report.page import Page, note, strips
from sanslabel.report.snapshot import Snapshot


def views(run: Snapshot, page: Page) -> Iterator[str]:
    """Yields a strip of images for each kind of view, and for a VAE the information in each code dimension."""
    try:
        images = images_of_last_batch(run.folder)
    except SanslabelError as error:
        yield note(f"Not drawn: {error}")
        return
    yield strips({name: pictures.row(strip) for name, strip in images.items()})
    yield note("Training drew these same views of its last batch, since draws depend only on the seed and the step.")
    newest = run.lines[-1] if run.lines else {}
    if isinstance(values := newest.get("kl_by_dimension"), list) and (nats := [x for x in values if x is not None]):
        yield page.grid([charts.bars("Information in each code dimension", nats, "nats")])
