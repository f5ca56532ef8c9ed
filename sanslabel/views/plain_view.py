"""The view that evaluation takes of a signal, without a draw."""

from __future__ import annotations

from typing import Protocol

from sanslabel.batch import Batch
from sanslabel.inputs import ImageSpec, InputSpec, SpectrogramSpec, TextSpec
from sanslabel.views.encoder_input import EncoderInput
from sanslabel.views.spectrogram import LogMel
from sanslabel.views.text import Text
from sanslabel.views.view import View


class PlainView(Protocol):
    """A view that can be taken without a draw."""

    def plain(self, batch: Batch) -> EncoderInput:
        """Returns the input of an encoder, the same each time."""
        ...


def plain_view(spec: InputSpec) -> PlainView:
    """Returns the view that evaluation takes for an encoder of this input.

    For images it is the largest central square, for sounds the log-mel spectrogram of the central window, and for texts
    the source as it is.
    """
    match spec:
        case ImageSpec():
            return View(size=spec.side)
        case SpectrogramSpec():
            return LogMel.of(spec)
        case TextSpec():
            return Text()
