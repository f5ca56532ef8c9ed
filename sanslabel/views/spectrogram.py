"""Log-mel spectrograms: views of sound, which encoders of images can read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import log
from typing import Annotated, cast

import torch
from torch import Tensor
from torch.nn.functional import pad

from sanslabel.batch import Audio, Batch
from sanslabel.constraints import Bounds, NonNegative, Positive, check_constraints
from sanslabel.errors import BadInput
from sanslabel.inputs import SpectrogramSpec
from sanslabel.randomness import fold, uniform
from sanslabel.stopwatch import timed
from sanslabel.views.encoder_input import EncoderInput

BRANCH = 6
"""branch of a stream that the place of a window is drawn from"""
LINEAR_BELOW = 1000.0
"""frequency (Hz) below which the mel scale is linear"""


@dataclass(frozen=True, kw_only=True)
class LogMel:
    """Log-mel spectrograms of windows of sound.

    The view is ln(bank · |STFT|² + floor), with a periodic Hann window and centered frames. The mel scale and the bank
    are Slaney's, as in librosa: triangles of equal area. The window is padded with zeros at both ends.
    """

    mels: Annotated[int, Bounds(least=1)] = 64
    """mel bands"""
    frames: Annotated[int, Bounds(least=1)] = 96
    """points of time; the window has (frames - 1) · hop samples"""
    rate: Annotated[int, Bounds(least=1)] = 16_000
    """samples of the wave in a second (Hz)"""
    window: Annotated[int, Bounds(least=2)] = 1024
    """samples of the Hann window of a frame"""
    hop: Annotated[int, Bounds(least=1)] = 160
    """samples from one frame to the next"""
    low: Annotated[float, NonNegative] = 60.0
    """lowest frequency (Hz) of the bank"""
    high: Annotated[float, Positive] = 7800.0
    """highest frequency (Hz) of the bank, at most half of the rate"""
    floor: Annotated[float, Positive] = torch.finfo(torch.float32).eps
    """number that is added before the logarithm, so that silence is finite"""

    def __post_init__(self) -> None:
        check_constraints(self, "LogMel.")
        if not self.low < self.high <= self.rate / 2:
            raise BadInput(
                f"LogMel.high {self.high:g}: must be above low ({self.low:g}) and at most half of the rate "
                f"({self.rate / 2:g} Hz)."
            )

    @classmethod
    def of(cls, spec: SpectrogramSpec) -> LogMel:
        """Returns the view that makes such spectrograms: frames of 64 ms, every 10 ms, from 60 Hz to 0.4875 of the
        rate."""
        rate = spec.rate
        return cls(
            mels=spec.mels,
            frames=spec.frames,
            rate=rate,
            window=round(0.064 * rate),
            hop=max(1, round(0.01 * rate)),
            high=0.4875 * rate,
        )

    @property
    def samples(self) -> int:
        """Returns the samples of the wave in one view."""
        return (self.frames - 1) * self.hop

    @timed("views")
    @torch.no_grad()
    def input(self, batch: Batch, stream: int) -> EncoderInput:
        """Returns the spectrogram of a random window of every sound, (N, 1, mels, frames) float32.

        The window is a function of the sample's key and of the stream.
        """
        mono, room = self._mono(batch)
        draws = uniform(batch.key, 1, fold(stream, BRANCH))[:, 0]
        return self._of_windows(mono, (draws * (room + 1)).long())

    @torch.no_grad()
    def plain(self, batch: Batch) -> EncoderInput:
        """Returns the spectrogram of the central window of every sound, without a draw."""
        mono, room = self._mono(batch)
        return self._of_windows(mono, room // 2)

    def spectrogram(self, waves: Tensor) -> Tensor:
        """Returns the spectrogram of full waves, (N, T) -> (N, mels, 1 + T // hop) float32."""
        waves = waves.float()
        with torch.autocast(waves.device.type, enabled=False):
            hann = torch.hann_window(self.window, device=waves.device)
            spectrum = torch.stft(
                waves, self.window, self.hop, window=hann, center=True, pad_mode="constant", return_complex=True
            )
            power = torch.view_as_real(spectrum).square().sum(dim=-1)  # (N, window / 2 + 1, frames)
            return (self.bank(waves.device) @ power + self.floor).log()

    def bank(self, device: torch.device) -> Tensor:
        """Returns the weight of each frequency bin in each mel band, (mels, window / 2 + 1) float32."""
        return mel_bank(self.mels, self.window, self.rate, self.low, self.high).float().to(device)

    def _mono(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the mean over channels, (N, T), T at least `samples`, and the last possible start of a window,
        (N,)."""
        waves, lengths = cast(Audio, batch.signals["audio"])
        mono = waves.float().mean(dim=1)
        if lengths is None:
            lengths = batch.index.new_full((len(mono),), mono.shape[1])
        return pad(mono, (0, max(0, self.samples - mono.shape[1]))), (lengths - self.samples).clamp(min=0)

    def _of_windows(self, mono: Tensor, start: Tensor) -> EncoderInput:
        """Returns the spectrograms of the windows that begin at these samples."""
        places = start[:, None] + torch.arange(self.samples, device=mono.device)
        return EncoderInput(self.spectrogram(mono.gather(1, places))[:, None])


def to_mel(hertz: Tensor) -> Tensor:
    """Returns frequencies on Slaney's mel scale: 3 mels for every 200 Hz below 1 kHz, and above that 27 mels for every
    factor of 6.4."""
    logarithmic = 15 + 27 * (hertz.clamp(min=LINEAR_BELOW) / LINEAR_BELOW).log() / log(6.4)
    return torch.where(hertz < LINEAR_BELOW, hertz * 3 / 200, logarithmic)


def to_hertz(mel: Tensor) -> Tensor:
    """Returns the frequencies (Hz) of points on Slaney's mel scale."""
    return torch.where(mel < 15, mel * 200 / 3, LINEAR_BELOW * ((mel - 15) * log(6.4) / 27).exp())


@lru_cache(maxsize=8)
def mel_bank(mels: int, window: int, rate: int, low: float, high: float) -> Tensor:
    """Returns a bank of triangles over frequency bins, (mels, window / 2 + 1) float64.

    Their corners are equally spaced in mel from `low` to `high`. Each is scaled by 2 / (its width in Hz), so that all
    have about the same area.
    """
    low_mel, high_mel = to_mel(torch.tensor([low, high], dtype=torch.float64)).tolist()
    corners = to_hertz(torch.linspace(low_mel, high_mel, mels + 2, dtype=torch.float64))
    bins = torch.arange(window // 2 + 1, dtype=torch.float64) * rate / window
    left, center, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (bins - left) / (center - left), (right - bins) / (right - center)
    return torch.minimum(rising, falling).clamp(min=0) * 2 / (right - left)
