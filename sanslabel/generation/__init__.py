"""Generation: samples, reconstructions and energies of single images, and translations, by a trained model."""

from sanslabel.generation.energy_table import EnergyTable, energy_table
from sanslabel.generation.picture import Picture
from sanslabel.generation.quality import Quality, quality
from sanslabel.generation.samples import interpolation, reconstructions, samples
from sanslabel.generation.surface import surface
from sanslabel.generation.translations import translations

__all__ = [
    "EnergyTable",
    "Picture",
    "Quality",
    "energy_table",
    "interpolation",
    "quality",
    "reconstructions",
    "samples",
    "surface",
    "translations",
]
