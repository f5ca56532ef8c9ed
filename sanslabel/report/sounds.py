"""Sounds as data URIs, which are part of the page itself."""

from __future__ import annotations

import wave
from base64 import b64encode
from io import BytesIO

import torch

from sanslabel.batch import Audio
from sanslabel.views.spectrogram import HALF_SCALE


def wav_uris(sounds: Audio, hertz: int) -> list[str]:
    """Returns each sound, the mean of its channels, as data:audio/wav;…, with `hertz` samples a second."""
    mono = sounds.waves.cpu().float().mean(dim=1)
    if sounds.waves.is_floating_point():
        mono = mono * HALF_SCALE
    samples = mono.round().clamp(-HALF_SCALE, HALF_SCALE - 1).to(torch.int16)
    lengths = [samples.shape[1]] * len(samples) if sounds.lengths is None else sounds.lengths.tolist()
    return [_uri(sound[:length].numpy().tobytes(), hertz) for sound, length in zip(samples, lengths, strict=True)]


def _uri(samples: bytes, hertz: int) -> str:
    """Returns samples of 16 bits, in this machine's order of bytes, as a WAV file."""
    stream = BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(hertz)
        file.writeframes(samples)
    return f"data:audio/wav;base64,{b64encode(stream.getvalue()).decode()}"
