"""Heads: small networks between the representation and the loss, which are removed after training."""

from sanslabel.heads.decoders import Generator, Mirror, decoder, generator
from sanslabel.heads.dropout import Dropout
from sanslabel.heads.mlp import mlp
from sanslabel.heads.prototypes import Directions, Prototypes
from sanslabel.heads.row_context import RowContext
from sanslabel.heads.temperature import Temperature
from sanslabel.heads.text_predictor import PredictorKind, Progress, TextPredictor
from sanslabel.heads.token_predictor import TokenPredictor

__all__ = [
    "Directions",
    "Dropout",
    "Generator",
    "Mirror",
    "PredictorKind",
    "Progress",
    "Prototypes",
    "RowContext",
    "Temperature",
    "TextPredictor",
    "TokenPredictor",
    "decoder",
    "generator",
    "mlp",
]
