"""What tests of training have in common."""

from contextlib import contextmanager

import pytest

from sanslabel.encoders import vit
from sanslabel.training import session


@pytest.fixture
def tiny_vit(monkeypatch):
    """Makes the smallest transformer a hundredth as large."""
    monkeypatch.setitem(vit.SHAPES, "vit_micro", vit.Shape(depth=2, width=32, heads=2))


@pytest.fixture
def interrupted(monkeypatch):
    """interrupted(step): a context in which training saves after each step and is interrupted after this one."""

    @contextmanager
    def after(step):
        def stopped(*arguments):
            for record in optimize(*arguments):
                yield record
                if record.clock.step == step:
                    raise KeyboardInterrupt

        optimize = session.optimize
        with monkeypatch.context() as patch:
            patch.setattr(session, "optimize", stopped)
            patch.setattr(session, "SAVE_AFTER", 0.0)
            yield

    return after
