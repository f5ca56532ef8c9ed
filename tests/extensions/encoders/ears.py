"""An encoder that reads spectrograms."""

from torch import Tensor, nn

from sanslabel.encoders import Encoder
from sanslabel.inputs import SpectrogramSpec


class Ears(Encoder):
    """A linear layer on the mean over time of each mel band: (N, 1, mels, frames) -> (N, 16)."""

    names = ("ears",)
    input = SpectrogramSpec

    def __init__(self, name: str, mels: int, frames: int, rate: int) -> None:
        super().__init__({"name": name, "mels": mels, "frames": frames, "rate": rate}, width=16)
        self.norm = nn.BatchNorm1d(mels)
        self.layer = nn.Linear(mels, 16)

    def stages(self, images: Tensor) -> list[Tensor]:
        """Returns the one vector of each spectrogram."""
        return [self.layer(self.norm(images.mean(dim=3).squeeze(1)))]

    def pooled(self, stage: Tensor) -> Tensor:
        """Returns the stage, which is a vector already."""
        return stage
