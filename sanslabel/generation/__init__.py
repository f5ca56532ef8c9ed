"""Generation: samples, reconstructions and energies of single images by a trained model, and their quality."""

from sanslabel.generation.energies import Energies, energies
from sanslabel.generation.picture import Picture
from sanslabel.generation.quality import Quality, quality
from sanslabel.generation.samples import interpolation, reconstructions, samples
from sanslabel.generation.surface import surface

__all__ = [
    "Energies",
    "Picture",
    "Quality",
    "energies",
    "interpolation",
    "quality",
    "reconstructions",
    "samples",
    "surface",
]
