"""The catalogue of everything that a run logs: one entry for each key of metrics.jsonl.

A method with several players puts their names before the keys ("critic/loss"); the catalogue has the key without a
name. The log of a run, the charts of a report, the verdict and docs/figures.md are made from these entries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Better = Literal["higher", "lower", "near 1", ""]
"""the direction in which a figure gets better; "" if it has none"""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number that a run logs, or one list of numbers."""

    name: str
    """key in metrics.jsonl, without a player's name"""
    title: str
    """title of its chart"""
    unit: str = ""
    """unit of the number; empty if it has none"""
    better: Better = ""
    meaning: str
    """full sentences for a reader who knows the field, but not this project"""
    drawn: bool = True
    """True if a report draws it as a curve"""
    comparable: bool = True
    """True if different methods may share a chart; their losses have different units"""
    short: str = ""
    """word for the figure in the line that a run prints; empty if the line leaves the figure out"""


def term(name: str, title: str, meaning: str, unit: str = "", better: Better = "lower") -> Figure:
    """Returns the entry of a term of a loss. Only runs of the same method can be compared by such a term."""
    return Figure(name=name, title=title, unit=unit, better=better, meaning=meaning, comparable=False)


PROGRESS = (
    Figure(
        name="step",
        title="Step",
        unit="steps",
        meaning="The number of steps done so far.",
        drawn=False,
    ),
    Figure(
        name="epoch",
        title="Epoch",
        unit="epochs",
        meaning="The number of epochs done so far, as a decimal number.",
        drawn=False,
    ),
    Figure(
        name="loss",
        title="Loss",
        better="lower",
        meaning="The loss that the optimizer descends, over the whole batch.",
        comparable=False,
        short="loss",
    ),
    Figure(
        name="trivial",
        title="Loss at collapse",
        meaning="The loss of a model that distinguishes nothing. If the loss stays there, nothing is learned.",
        drawn=False,
        comparable=False,
    ),
    Figure(
        name="refused",
        title="Refused step",
        better="",
        meaning="True if the loss or its gradient was not finite. Such a step changes no weight.",
        drawn=False,
    ),
)
EMBEDDING = (
    Figure(
        name="embedding_std",
        title="Spread of the embedding",
        better="near 1",
        meaning=(
            "The standard deviation of the normalized embedding, averaged over its dimensions, times √D. It is 1 if "
            "embeddings are spread over the whole sphere, and 0 if all are equal."
        ),
    ),
    Figure(
        name="effective_rank",
        title="Effective rank of the embedding",
        unit="directions",
        better="higher",
        meaning=(
            "The number of directions that matter: the exponential of the entropy of the singular values (RankMe). A "
            "rank far below the largest possible one is a dimensional collapse."
        ),
        short="rank",
    ),
    Figure(
        name="full_rank",
        title="Largest possible rank",
        unit="directions",
        meaning="The rank that the effective rank cannot exceed: samples or dimensions, whichever are fewer.",
        drawn=False,
    ),
    Figure(
        name="mean_cosine",
        title="Mean cosine of different images",
        better="lower",
        meaning="The mean cosine of embeddings of different images. It is 1 if all point the same way.",
    ),
    Figure(
        name="alignment",
        title="Distance of positive pairs",
        better="lower",
        meaning=(
            "The mean squared distance of the normalized embeddings of two views of an image. It is 0 if they agree, "
            "and 4 if they are opposite."
        ),
    ),
    Figure(
        name="pair_auroc",
        title="True pairs above false ones",
        better="higher",
        meaning=(
            "The share of false pairs whose embeddings have a lower cosine than those of the true pair. It is 1 if "
            "each pair is recognized, and 0.5 if the two members have nothing in common."
        ),
    ),
    Figure(
        name="uniformity",
        title="Uniformity",
        better="lower",
        meaning=(
            "The logarithm of the mean of exp(-2 d²) over distances d of normalized embeddings. It is 0 if all are "
            "equal, and nears -4 if they are spread evenly over a sphere of many dimensions."
        ),
    ),
    Figure(
        name="participation_ratio",
        title="Participation ratio",
        unit="directions",
        better="higher",
        meaning="The number of directions that hold the variance: (Σλ)² / Σλ² of the covariance's eigenvalues λ.",
    ),
    Figure(
        name="paired_lidar",
        title="LiDAR from pairs of views",
        unit="directions",
        better="higher",
        meaning=(
            "The number of directions in which images differ by more than chance makes of the differences between two "
            "views of one image. It is 0 if there are none. With few images, weak directions are missed. It is logged "
            "for embeddings of at most 128 dimensions, and of at most half as many as there are images in the batch."
        ),
    ),
    Figure(
        name="alpha_req",
        title="α of the spectrum",
        better="near 1",
        meaning=(
            "The exponent α with which the covariance's eigenvalues fall (α-ReQ). Far above 1, a few directions hold "
            "all of the variance; below 1, the spectrum is too flat."
        ),
    ),
    Figure(
        name="dead_dimensions",
        title="Dead dimensions",
        better="lower",
        meaning="The share of dimensions that are the same for all images.",
        drawn=False,
    ),
)
METHOD = (
    Figure(
        name="negatives",
        title="Negatives",
        unit="views",
        meaning="The number of other views or entries that each view is compared with.",
        drawn=False,
    ),
    Figure(
        name="hardest_tenth",
        title="Share of the hardest tenth of the negatives",
        meaning=(
            "The share of the softmax over negatives that goes to the hardest tenth of them. It is 0.1 if all "
            "negatives repel alike, and nears 1 if a few do all of the work."
        ),
    ),
    Figure(
        name="share_of_tenth",
        title="Share of the largest tenth of the scores",
        meaning="The share of the softmax over wrong candidates that goes to the tenth with the largest scores.",
    ),
    Figure(
        name="usage",
        title="Prototypes in use",
        unit="prototypes",
        better="higher",
        meaning="The number of prototypes or clusters in use: the perplexity of the mean assignment.",
    ),
    Figure(
        name="teacher_entropy",
        title="Entropy of the teacher",
        unit="nats",
        meaning=(
            "The entropy of the teacher's distribution over its outputs. At the largest value, all outputs have the "
            "same probability, and the teacher teaches nothing."
        ),
    ),
    Figure(
        name="accuracy",
        title="Accuracy in the method's own task",
        better="higher",
        meaning=(
            "The share of right answers in the task that the method trains on: labels, rotations, positions or "
            "candidates. It says little about the accuracy of the representation."
        ),
        comparable=False,
    ),
    Figure(
        name="modality_gap",
        title="Distance between two signals",
        meaning=(
            "The distance between the means of the normalized embeddings of two signals, such as pictures and sounds. "
            "It is 0 if both lie around the same mean, and 2 if each signal is one point, opposite to the other."
        ),
    ),
    Figure(
        name="explained",
        title="Explained variance",
        better="higher",
        meaning="The share of the variance of hidden pixels that the reconstruction explains. It is 0 for a constant.",
    ),
    Figure(
        name="target_std",
        title="Spread of the targets",
        better="higher",
        meaning="The standard deviation of target tokens over images, patch by patch. It is 0 at collapse.",
    ),
    Figure(
        name="prediction_std",
        title="Spread of the predictions",
        better="higher",
        meaning="The standard deviation of predicted tokens over images, patch by patch. It is 0 at collapse.",
    ),
    Figure(
        name="active_units",
        title="Code dimensions in use",
        unit="dimensions",
        better="higher",
        meaning="The number of code dimensions that carry information. It is 0 at posterior collapse.",
    ),
    Figure(
        name="kl_by_dimension",
        title="Information in each code dimension",
        unit="nats",
        meaning="A list with the KL divergence of each code dimension from its prior.",
        drawn=False,
    ),
    Figure(
        name="sample_variation",
        title="Variation of samples",
        better="near 1",
        meaning=(
            "The standard deviation of generated images over samples, divided by that of the data. It is 0 if the "
            "generator makes one image only (mode collapse)."
        ),
    ),
)
TERMS = (
    term(
        "nll",
        "Negative log-likelihood",
        "The loss of the reconstruction: minus the log-likelihood of the images.",
        "nats",
    ),
    Figure(
        name="token_nll",
        title="Negative log-likelihood of a token",
        unit="nats",
        better="lower",
        meaning=(
            "Minus the log-likelihood of a token that is to be predicted, without label smoothing, as the mean over "
            "the tokens of the batch. It is ln V for a model that knows nothing of a vocabulary of V tokens."
        ),
    ),
    term(
        "kl",
        "KL divergence",
        "For a VAE, the divergence of the codes from their prior. For DINO, that of the student from its teacher.",
        "nats",
    ),
    term("error", "Reconstruction error", "The squared error of the reconstruction."),
    term("cost", "Cost of the code", "The mean absolute value of the code, which a sparse autoencoder keeps low."),
    term(
        "real", "Critic's opinion of data", "The probability that the critic gives to data being real.", better="higher"
    ),
    term("fake", "Critic's opinion of samples", "The probability that the critic gives to samples being real."),
    term("energy_real", "Energy of data", "The mean energy of the batch's images."),
    term("energy_fake", "Energy of samples", "The mean energy of generated samples.", better=""),
    term("pull_away", "Similarity of samples", "The mean squared cosine of the codes of different samples."),
    term("invariance", "Invariance", "The distance of the embeddings of two views of an image."),
    term("variance", "Variance hinge", "The mean amount by which the standard deviation of a dimension is below 1."),
    term("covariance", "Covariance", "The squared covariances of different dimensions."),
    term("redundancy", "Redundancy", "The squared correlations of different dimensions."),
    term("distance", "Distance from the target", "The distance of predicted tokens from those of the teacher."),
    term("image_nll", "Loss of images", "The loss of recognizing an image's entry in the bank by the image."),
    term("transformed_nll", "Loss of transformed images", "The same loss for the shuffled or rotated image."),
    term("cross_nll", "Loss across signals", "The loss of recognizing a sample's entry in the other signal's bank."),
    term("self_nll", "Loss within signals", "The loss of recognizing a sample's entry in the bank of its own signal."),
    term(
        "consensus_nll",
        "Loss of the consensus",
        "The loss of recognizing, within a signal, the samples that are near in both signals.",
    ),
    term("temperature", "Temperature", "The learned temperature of the cosines.", better=""),
    term("energy", "Energy that the generator lowers", "The mean energy of generated samples in the generator's step."),
    term("sigreg", "SIGReg", "The distance of the embedding from a standard normal distribution."),
)
DATA = (
    Figure(
        name="image_variation",
        title="Variation of images",
        meaning="The standard deviation of a pixel over the images of the batch. It is 0 if all are the same.",
        drawn=False,
    ),
    Figure(
        name="image_contrast",
        title="Contrast of images",
        meaning="The standard deviation of the pixels of an image. It is 0 if each image has a single color.",
        drawn=False,
    ),
    Figure(
        name="partner_itself",
        title="Partners that are the sample itself",
        better="lower",
        meaning="The share of samples whose partner is the sample itself, for data that are paired.",
        drawn=False,
    ),
    Figure(
        name="frame_difference",
        title="Difference of near frames",
        meaning=(
            "The mean absolute difference of an image and its partner, or of two frames of a clip that follow each "
            "other in the batch. It is 0 if nothing moves."
        ),
        drawn=False,
    ),
    Figure(
        name="loudness",
        title="Level of sounds",
        unit="dBFS",
        meaning="The level of the median sound of the batch, relative to full scale. Below -60, nothing is heard.",
        drawn=False,
    ),
    Figure(
        name="view_difference",
        title="Difference of views",
        meaning="The mean absolute difference of two views of an image. It is 0 if the views are identical.",
        drawn=False,
    ),
)
WEIGHTS = (
    Figure(
        name="gradient_norm",
        title="Norm of the gradient",
        meaning="The norm of the gradient of all trained weights, before it is clipped.",
    ),
    Figure(
        name="learning_rate",
        title="Learning rate",
        meaning="The learning rate of the first player's first group of weights.",
    ),
    Figure(
        name="weight_growth",
        title="Growth of the weights",
        meaning="The norm of all trained weights, divided by their norm at the start of the run.",
        drawn=False,
    ),
    Figure(
        name="shared_teacher",
        title="Shared teacher",
        meaning="True if the teacher shares memory with the student, which is a mistake in the method's code.",
        drawn=False,
    ),
)
TIME = (
    Figure(
        name="images_per_second",
        title="Speed",
        unit="images/s",
        better="higher",
        meaning="The number of images that all processes together trained on per second since the previous line.",
        drawn=False,
    ),
    Figure(
        name="share_of_network",
        title="Time in the network",
        better="higher",
        meaning="The share of the time for forward, backward and update, since the previous entry.",
        drawn=False,
    ),
    Figure(
        name="share_of_views",
        title="Time in views",
        better="lower",
        meaning="The share of the time for drawing the views, since the previous entry.",
        drawn=False,
    ),
    Figure(
        name="share_of_waiting",
        title="Time waiting for data",
        better="lower",
        meaning="The share of the time for waiting for the next batch, since the previous entry.",
        drawn=False,
    ),
    Figure(
        name="share_of_rest",
        title="Time in the rest",
        better="lower",
        meaning="The share of the time for logging, diagnostics and checkpoints, since the previous entry.",
        drawn=False,
    ),
    Figure(
        name="peak_memory",
        title="Peak memory",
        unit="bytes",
        better="lower",
        meaning="The largest main memory that the process has used so far; 0 where the system does not report it.",
        drawn=False,
    ),
    Figure(
        name="device_memory",
        title="Peak memory on the device",
        unit="bytes",
        better="lower",
        meaning="The largest memory that tensors have used on an accelerator so far; 0 elsewhere.",
        drawn=False,
    ),
)
GROUPS: Mapping[str, tuple[Figure, ...]] = {
    "Progress": PROGRESS,
    "Embedding": EMBEDDING,
    "Measures of a method": METHOD,
    "Terms of losses": TERMS,
    "Images and views": DATA,
    "Weights": WEIGHTS,
    "Time and memory": TIME,
}
"""titles of docs/figures.md; the charts of a report keep this order"""
FIGURES: Mapping[str, Figure] = {figure.name: figure for group in GROUPS.values() for figure in group}
RETIRED: Mapping[str, Figure] = {
    "lidar": Figure(
        name="lidar",
        title="LiDAR, as it was",
        unit="directions",
        meaning=(
            "LiDAR from the means of two views. It is biased: it rose where views differ by chance, and fell as images "
            "became distinguishable. `paired_lidar` is in its place."
        ),
        drawn=False,
    ),
}
"""figures of runs of earlier versions, which no run logs now"""


def name_of(key: str) -> str:
    """Returns the name of the figure behind a key of metrics.jsonl: the key without a player's name."""
    return key.rpartition("/")[2]


def figure_of(key: str) -> Figure:
    """Returns the entry of a key of metrics.jsonl. A key outside of the catalogue is a term of a user's method."""
    name = name_of(key)
    meaning = "A term that the method logs, which is not in the catalogue of figures."
    other = Figure(name=name, title=name, meaning=meaning, comparable=False)
    return FIGURES.get(name) or RETIRED.get(name, other)


def keys_of(line: Mapping[str, Any], name: str) -> Iterator[str]:
    """Yields the keys of a line of metrics.jsonl under which players log this figure as a number."""
    for key, value in line.items():
        if name_of(key) == name and isinstance(value, int | float):
            yield key
