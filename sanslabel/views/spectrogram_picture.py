"""Spectrograms as pictures for people."""

from __future__ import annotations

from torch import Tensor


def spectrogram_picture(spectrograms: Tensor) -> Tensor:
    """Returns spectrograms (N, 1, mels, frames) in [0, 1], with 1 for the largest number of each."""
    values = spectrograms.detach().float()
    low, high = values.amin(dim=(1, 2, 3), keepdim=True), values.amax(dim=(1, 2, 3), keepdim=True)
    return (values - low) / (high - low).clamp(min=1e-12)
