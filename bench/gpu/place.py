"""The device that items run on, and the size that they run at."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Place:
    """A device, and the data that lie there."""

    kind: str
    """cuda, or cpu for a rehearsal"""
    fashion: str | None
    """the name or file of Fashion-MNIST; None if it is not there"""
    toy: bool = False
    """True for a rehearsal, with a few images and steps"""

    @property
    def device(self) -> torch.device:
        """Returns the device."""
        return torch.device(self.kind)

    @property
    def rounds(self) -> int:
        """Returns the rounds of a timing."""
        return 2 if self.toy else 7

    @property
    def at_least(self) -> float:
        """Returns the seconds that a call is repeated for in a round."""
        return 0.0 if self.toy else 0.3
