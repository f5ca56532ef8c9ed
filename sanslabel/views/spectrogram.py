"""Log-mel spectrograms: views of sound, which encoders of images can read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, log
from typing import Annotated, ClassVar, Literal, cast

import torch
from torch import Tensor

from sanslabel.batch import Audio, Batch
from sanslabel.constraints import Bounds, Fraction, NonNegative, Positive, check_constraints
from sanslabel.distributed import gather, rank
from sanslabel.errors import BadInput
from sanslabel.inputs import SpectrogramSpec
from sanslabel.randomness import fold, uniform
from sanslabel.stopwatch import timed
from sanslabel.views.encoder_input import EncoderInput
from sanslabel.views.resampling import resampled, resampling_matrices

BRANCH = 6
"""branch of a stream that the draws of a view come from"""
DRAWS = 12
"""uniform draws of a view, each of which keeps its place forever. They are the start of the window, the gain, and the
row and share of the mixture. After these come length and start of the crop in time and in frequency, then those of the
masks."""
LINEAR_BELOW = 1000.0
"""frequency (Hz) below which Slaney's mel scale is linear"""
HALF_SCALE = 32768.0
"""number that stands for full scale in waves of 16-bit integers"""
Scale = Literal["slaney", "htk"]


@dataclass(frozen=True, kw_only=True)
class LogMel:
    """Log-mel spectrograms of windows of sound, which encoders read as images of one channel.

    The view is ln(bank · |STFT|² + floor), with a periodic Hann window and centered frames. The mel scale and the bank
    are Slaney's by default, as in librosa: triangles of equal area. The window is padded with zeros at both ends.
    Encoders subtract the mean of the data and divide by its deviation, as for images (`scaling`).

    By default the window alone is drawn. The other operations are those of BYOL-A (Niizumi et al. 2021, section III),
    with three deviations. What is mixed in is another sample of the batch, where they keep the last 2,048 samples. A
    crop that is longer than the view reads the sound around it, where they fill with zeros. It is resampled linearly,
    not by cubics. Masks in time and frequency are SpecAugment's (Park et al. 2019), filled with the mean.
    """

    signal: ClassVar[str] = "audio"
    """the signal of a batch that the view reads"""

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
    scale: Scale = "slaney"
    """mel scale of the bank"""
    equal_area: bool = True
    """True scales the triangles of the bank to equal area, False to a height of 1"""
    gain: Annotated[float, NonNegative] = 0.0
    """most decibels by which the sound gets louder or softer"""
    mixup: Annotated[float, Fraction] = 0.0
    """most of the power that comes from another sample of the batch"""
    crop_time: tuple[float, float] = (1.0, 1.0)
    """range of the crop in time, as a share of the frames; above 1 it reads more of the sound"""
    crop_mels: tuple[float, float] = (1.0, 1.0)
    """range of the crop in frequency, as a share of the bands, at most 1"""
    mask_time: Annotated[float, Fraction] = 0.0
    """longest mask in time, as a share of the frames"""
    mask_mels: Annotated[float, Fraction] = 0.0
    """widest mask in frequency, as a share of the bands"""

    def __post_init__(self) -> None:
        check_constraints(self, "LogMel.")
        if not self.low < self.high <= self.rate / 2:
            raise BadInput(
                f"LogMel.high {self.high:g}: must be above low ({self.low:g}) and at most half of the rate "
                f"({self.rate / 2:g} Hz)."
            )
        for name, most in (("crop_time", 4.0), ("crop_mels", 1.0)):
            shortest, longest = getattr(self, name)
            if not 0 < shortest <= longest <= most:
                raise BadInput(
                    f"LogMel.{name} {(shortest, longest)}: must be two numbers above 0 and up to {most:g}, the smaller"
                    " one first."
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
        """Returns the samples of the wave in a view that is not cropped."""
        return (self.frames - 1) * self.hop

    @property
    def canvas(self) -> int:
        """Returns the frames of which a view is a crop."""
        return max(self.frames, ceil(self.frames * self.crop_time[1]))

    @property
    def crop_alone(self) -> LogMel:
        """Returns the view without gain, mixture and masks."""
        return replace(self, gain=0.0, mixup=0.0, mask_time=0.0, mask_mels=0.0)

    @timed("views")
    @torch.no_grad()
    def __call__(self, batch: Batch, stream: int) -> Tensor:
        """Returns the spectrogram of a random window of every sound, (N, 1, mels, frames) float32.

        The window and all other draws are functions of the sample's key and of the stream. A mixture also depends on
        the other samples of the global batch. Sounds that are shorter than the window get a random place in it if there
        is a crop, and else begin with it.
        """
        draws = uniform(batch.key, DRAWS, fold(stream, BRANCH))
        mono, lengths = self._mono(batch)
        samples = (self.canvas - 1) * self.hop
        room = lengths - samples
        if not self.cropped:
            room = room.clamp(min=0)
        start = (draws[:, 0] * (room.abs() + 1)).long() * room.sign()
        wave = self._windows(mono, start, samples)
        if self.gain:
            wave = wave * 10 ** (self.gain * (2 * draws[:, 1:2] - 1) / 20)
        power = self.power(wave)
        if self.mixup:
            power = mixed(power, draws[:, 2], self.mixup * draws[:, 3])
        spectrogram = (power + self.floor).log()
        if self.cropped:
            spectrogram = self._crop(spectrogram, draws[:, 4:8])
        if self.mask_time or self.mask_mels:
            spectrogram = striped(spectrogram, draws[:, 8:12], self.mask_mels, self.mask_time)
        return spectrogram[:, None]

    def input(self, batch: Batch, stream: int) -> EncoderInput:
        """Returns this stream's view of every sound, for an encoder."""
        return EncoderInput(self(batch, stream))

    @torch.no_grad()
    def plain(self, batch: Batch) -> EncoderInput:
        """Returns the spectrogram of the central window of every sound, without a draw."""
        mono, lengths = self._mono(batch)
        start = (lengths - self.samples).clamp(min=0) // 2
        return EncoderInput(self.spectrogram(self._windows(mono, start, self.samples))[:, None])

    def spectrogram(self, waves: Tensor) -> Tensor:
        """Returns the spectrogram of full waves, (N, T) -> (N, mels, 1 + T // hop) float32."""
        return (self.power(waves) + self.floor).log()

    def power(self, waves: Tensor) -> Tensor:
        """Returns the power in each mel band of full waves, (N, T) -> (N, mels, 1 + T // hop) float32."""
        waves = waves.float()
        with torch.autocast(waves.device.type, enabled=False):
            hann = torch.hann_window(self.window, device=waves.device)
            spectrum = torch.stft(
                waves, self.window, self.hop, window=hann, center=True, pad_mode="constant", return_complex=True
            )
            power = torch.view_as_real(spectrum).square().sum(dim=-1)  # (N, window / 2 + 1, frames)
            return self.bank(waves.device) @ power

    def bank(self, device: torch.device) -> Tensor:
        """Returns the weight of each frequency bin in each mel band, (mels, window / 2 + 1) float32."""
        arguments = (self.mels, self.window, self.rate, self.low, self.high, self.scale, self.equal_area)
        return mel_bank(*arguments).float().to(device)

    @property
    def cropped(self) -> bool:
        """Returns True if the view is a crop that is resized."""
        return (self.crop_time, self.crop_mels) != ((1.0, 1.0), (1.0, 1.0))

    def masked(self, patch: int) -> LogMel:
        """Raises BadInput, since square patches are masked in images alone."""
        raise BadInput("--masked: hides patches of pictures, and views of sound have masks of their own; leave it out.")

    def of_sound(self, spec: SpectrogramSpec) -> LogMel:
        """Returns the view itself."""
        return self

    def of_tiles(self, tiles: Tensor, batch: Batch, stream: int) -> Tensor:
        """Returns the tiles of spectrograms as they are: a view of the full sound has changed them."""
        return tiles

    def _mono(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Returns the mean over channels in [-1, 1], (N, T), and the length of each sound in samples, (N,)."""
        waves, lengths = cast(Audio, batch.signals["audio"])
        mono = waves.float().mean(dim=1)
        if not waves.is_floating_point():
            mono = mono / HALF_SCALE
        return mono, batch.index.new_full((len(mono),), mono.shape[1]) if lengths is None else lengths

    def _windows(self, mono: Tensor, start: Tensor, samples: int) -> Tensor:
        """Returns the windows of so many samples that begin at these places, (N, samples), with zeros outside of the
        wave."""
        places = start[:, None] + torch.arange(samples, device=mono.device)
        inside = (places >= 0) & (places < mono.shape[1])
        return mono.gather(1, places.clamp(0, mono.shape[1] - 1)) * inside

    def _crop(self, spectrogram: Tensor, draws: Tensor) -> Tensor:
        """Returns a random box of every spectrogram, resized to the view: (N, mels, canvas) and draws (N, 4) -> (N,
        mels, frames)."""
        _, mels, canvas = spectrogram.shape
        along = interval(draws[:, 0], draws[:, 1], self.crop_time, self.frames, canvas)
        down = interval(draws[:, 2], draws[:, 3], self.crop_mels, mels, mels)
        horizontal = resampling_matrices(*along, canvas, self.frames, spectrogram.dtype)
        vertical = resampling_matrices(*down, mels, mels, spectrogram.dtype)
        with torch.autocast(spectrogram.device.type, enabled=False):
            return resampled(spectrogram[:, None], vertical, horizontal)[:, 0]


def sound_view(spec: SpectrogramSpec) -> LogMel:
    """Returns the view of sound that takes the place of strong crops of images: a mixture, a crop of 0.6 to 1.5 of the
    time and 0.6 to 1 of the bands, a gain, and short masks. Mixture and crop have the strengths of
    BYOL-A."""
    return replace(
        LogMel.of(spec),
        gain=6.0,
        mixup=0.4,
        crop_time=(0.6, 1.5),
        crop_mels=(0.6, 1.0),
        mask_time=0.1,
        mask_mels=0.1,
    )


def interval(
    length_draw: Tensor, start_draw: Tensor, share: tuple[float, float], size: int, canvas: int
) -> tuple[Tensor, Tensor]:
    """Returns random intervals of an axis: their starts and lengths, (N,) int64 each.

    length_draw, start_draw: (N,), uniform in [0, 1); share: the range of the length as a share of `size`; canvas: the
    length of the axis.
    """
    low, high = share
    length = (size * (low + (high - low) * length_draw)).round().long().clamp(1, canvas)
    return (start_draw * (canvas - length + 1)).long(), length


def mixed(power: Tensor, row_draw: Tensor, share: Tensor) -> Tensor:
    """Returns (1 - α) x + α b, where b is another sample of the global batch.

    power: (N, mels, frames); row_draw: (N,), uniform in [0, 1), which chooses the other sample; share: α, (N,). On
    several processes, the samples of all of them can be chosen.
    """
    everyone = gather(power)
    count = len(everyone)
    row = rank() * len(power) + torch.arange(len(power), device=power.device)
    other = (row + 1 + (row_draw * (count - 1)).long()) % count
    share = share[:, None, None]
    return (1 - share) * power + share * everyone.index_select(0, other)


def striped(spectrogram: Tensor, draws: Tensor, mels: float, frames: float) -> Tensor:
    """Returns the spectrograms with a stripe of each axis replaced by their mean.

    spectrogram: (N, mels, frames); draws: (N, 4), uniform in [0, 1): length and start of the stripe in time, then in
    frequency; mels, frames: the longest stripe of each axis, as a share of it.
    """
    _, height, width = spectrogram.shape
    hidden = stripe(draws[:, 0], draws[:, 1], frames, width)[:, None, :]
    hidden = hidden | stripe(draws[:, 2], draws[:, 3], mels, height)[:, :, None]
    return torch.where(hidden, spectrogram.mean(dim=(1, 2), keepdim=True), spectrogram)


def stripe(length_draw: Tensor, start_draw: Tensor, share: float, size: int) -> Tensor:
    """Returns True at the places of a random stripe of an axis, (N, size) bool. Its length is uniform from 0 to `share`
    of the axis."""
    length = (length_draw * (int(share * size) + 1)).long()
    start = (start_draw * (size - length + 1)).long()
    place = torch.arange(size, device=length.device) - start[:, None]
    return (place >= 0) & (place < length[:, None])


def to_mel(hertz: Tensor, scale: Scale = "slaney") -> Tensor:
    """Returns frequencies on a mel scale.

    Slaney's has 3 mels for every 200 Hz below 1 kHz, and above that 27 mels for every factor of 6.4. HTK's is
    2595 log10(1 + f / 700).
    """
    if scale == "htk":
        return 2595 * (1 + hertz / 700).log10()
    logarithmic = 15 + 27 * (hertz.clamp(min=LINEAR_BELOW) / LINEAR_BELOW).log() / log(6.4)
    return torch.where(hertz < LINEAR_BELOW, hertz * 3 / 200, logarithmic)


def to_hertz(mel: Tensor, scale: Scale = "slaney") -> Tensor:
    """Returns the frequencies (Hz) of points on a mel scale."""
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    return torch.where(mel < 15, mel * 200 / 3, LINEAR_BELOW * ((mel - 15) * log(6.4) / 27).exp())


@lru_cache(maxsize=8)
def mel_bank(
    mels: int, window: int, rate: int, low: float, high: float, scale: Scale = "slaney", equal_area: bool = True
) -> Tensor:
    """Returns a bank of triangles over frequency bins, (mels, window / 2 + 1) float64.

    Their corners are equally spaced in mel from `low` to `high`. With `equal_area`, each is scaled by 2 / (its width in
    Hz), so that all have about the same area. Otherwise each has the height 1.
    """
    low_mel, high_mel = to_mel(torch.tensor([low, high], dtype=torch.float64), scale).tolist()
    corners = to_hertz(torch.linspace(low_mel, high_mel, mels + 2, dtype=torch.float64), scale)
    bins = torch.arange(window // 2 + 1, dtype=torch.float64) * rate / window
    left, center, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    rising, falling = (bins - left) / (center - left), (right - bins) / (right - center)
    triangles = torch.minimum(rising, falling).clamp(min=0)
    return triangles * 2 / (right - left) if equal_area else triangles
