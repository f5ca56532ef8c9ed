"""What a trained model makes and says of single images: samples, reconstructions, energies, and how good they are."""

from sanslabel.generation.energies import Energies, energies
from sanslabel.generation.quality import Quality, quality
from sanslabel.generation.samples import interpolation, reconstructions, samples
from sanslabel.generation.surface import surface

__all__ = ["Energies", "Quality", "energies", "interpolation", "quality", "reconstructions", "samples", "surface"]
