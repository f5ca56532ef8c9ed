"""The views of a run's last batch, and other pictures that the method makes from it."""

from __future__ import annotations

from collections.abc import Iterator

from sanslabel.errors import SanslabelError
from sanslabel.inputs import SpectrogramSpec
from sanslabel.report import pictures
from sanslabel.report.last_batch import last_batch
from sanslabel.report.markup import note, players, strips
from sanslabel.report.snapshot import Snapshot
from sanslabel.report.sounds import wav_uris
from sanslabel.wording import plural


def views(run: Snapshot) -> Iterator[str]:
    """Yields a strip of images for each kind of view, and a player for each sound."""
    try:
        batch = last_batch(run.folder)
    except SanslabelError as error:
        yield note(f"Not drawn: {error}")
        return
    yield strips({name: pictures.row(strip) for name, strip in batch.pictures.items()})
    if batch.sounds is not None:
        spec = run.plan.inputs["audio"]
        assert isinstance(spec, SpectrogramSpec)
        yield players(wav_uris(batch.sounds, spec.rate))
    if batch.pictures:
        yield note(
            f"{plural(run.plan.noun).capitalize()} of the last batch of training, and what training made of each of "
            "them."
        )
