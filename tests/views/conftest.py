import pytest
import torch

from sanslabel.batch import Batch
from sanslabel.views import resampling


@pytest.fixture
def batch_of():
    """Images as a batch: samples 0 to N - 1 with keys of their own."""

    def batch(images: torch.Tensor, sizes: torch.Tensor | None = None) -> Batch:
        index = torch.arange(len(images))
        return Batch.of_images(images, index, (index * 2654435761 + 12345) % 2**32, sizes=sizes)

    return batch


@pytest.fixture(params=["dense", "boxed"])
def form(request, monkeypatch):
    """Each form of the product, on images of any size."""
    side = 0 if request.param == "boxed" else 10**6
    monkeypatch.setattr(resampling, "BOXED_FROM", dict.fromkeys(resampling.BOXED_FROM, side))
    return request.param
