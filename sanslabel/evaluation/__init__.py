"""Evaluation: the quality of an encoder, measured with labels that it never saw.

Protocols (`protocols/`, one file each) measure a `Comparison`: encoders side by side on the same labeled images.
"""

from sanslabel.evaluation.evaluate import evaluate, scores_of_features
from sanslabel.evaluation.labeled_split import Unlabeled
from sanslabel.evaluation.representation import pixels, represent, settle_
from sanslabel.scores import Score

__all__ = ["Score", "Unlabeled", "evaluate", "pixels", "represent", "scores_of_features", "settle_"]
