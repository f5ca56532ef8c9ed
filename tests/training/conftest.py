"""What tests of training have in common."""

import pytest

from sanslabel.encoders import vit


@pytest.fixture
def tiny_vit(monkeypatch):
    """Makes the smallest transformer a hundredth as large."""
    monkeypatch.setitem(vit.SHAPES, "vit_micro", vit.Shape(depth=2, width=32, heads=2))
