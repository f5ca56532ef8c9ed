"""Log-mel views a second beside librosa and torchaudio: python -m bench.spectrograms

All make the same spectrogram: 0.95 seconds at 16 kHz, frames of 1,024 samples every 160, 64 bands of Slaney's scale
from 60 to 7,800 Hz, the logarithm of the power. Here and in torchaudio sounds come in batches of 64, in librosa one by
one, as in its examples. `full view` adds all that training draws: gain, mixture, crop and masks. Seconds are those of
the CPU, in one thread. Contenders take turns, and the fastest of several rounds counts. A library that does not import
is left out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bench.markdown import table
from sanslabel.batch import Audio, Batch
from sanslabel.inputs import SpectrogramSpec
from sanslabel.views import LogMel, sound_view

SPEC = SpectrogramSpec(mels=64, frames=96, rate=16_000)
BATCH, ROUNDS = 64, 5


def contenders(waves: Tensor) -> dict[str, Callable[[], Any]]:
    """Returns a function for each library that makes the spectrograms of waves, (N, T) float32."""
    plain, full = LogMel.of(SPEC), sound_view(SPEC)
    index = torch.arange(len(waves))
    batch = Batch(index, index, {"audio": Audio(waves[:, None])})
    windows = waves[:, : plain.samples]
    made: dict[str, Callable[[], Any]] = {
        "sanslabel": lambda: plain.spectrogram(windows),
        "sanslabel, full view": lambda: full(batch, 0),
    }
    shape: dict[str, Any] = {"n_fft": 1024, "hop_length": 160, "n_mels": 64, "power": 2.0, "center": True}
    try:
        import librosa

        def by_librosa() -> None:
            for wave in windows.numpy():
                mel = librosa.feature.melspectrogram(y=wave, sr=16_000, fmin=60, fmax=7800, **shape)
                torch.from_numpy(mel).add_(plain.floor).log_()

        made[f"librosa {librosa.__version__}"] = by_librosa
    except ImportError:
        pass
    try:
        import torchaudio

        transform = torchaudio.transforms.MelSpectrogram(
            16_000, f_min=60, f_max=7800, mel_scale="slaney", norm="slaney", pad_mode="constant", **shape
        )
        made[f"torchaudio {torchaudio.__version__}"] = lambda: (transform(windows) + plain.floor).log()
    except (ImportError, OSError, RuntimeError):
        pass
    return made


def main() -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    waves = torch.rand(BATCH, 32_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    makers = contenders(waves)
    seconds = dict.fromkeys(makers, float("inf"))
    for round_number in range(ROUNDS + 1):
        for name, make in makers.items():
            began = time.process_time()
            make()
            if round_number:  # the first round warms up
                seconds[name] = min(seconds[name], time.process_time() - began)
    print(table(["", "views a second"], [[name, f"{BATCH / taken:,.0f}"] for name, taken in seconds.items()]))


if __name__ == "__main__":
    main()
