"""accuracy of the encoder, beside pixels and a random encoder"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sanslabel.cli.flags import parse_flags
from sanslabel.cli.processes import joined_command

GROUP = "Measure"
USAGE = "evaluate RUN [--data PATH] …"
Protocol = Literal[
    "knn", "linear", "few", "layers", "cluster", "retrieval", "finetune", "transfer", "relation", "invariance"
]


@dataclass(frozen=True)
class Evaluate:
    """Measure the encoder of a run, beside raw pixels and a random encoder."""

    run: str
    """the run folder, or timm/NAME for a pretrained encoder of timm"""
    data: str | None = None
    """labeled data; by default those that the encoder was trained on"""
    protocols: tuple[Protocol, ...] = ("knn", "linear")
    """few: a linear probe on 1 % and 10 % of the labels; layers: one on each stage; cluster: k-means against labels;
    retrieval: mean average precision; finetune: the encoder learns on, with labels; transfer: a linear probe on another
    labeled set; relation: whether distances follow the labels, or another encoder's; invariance: what stays of an image
    that is cropped, mirrored, …"""
    transfer: str | None = None
    """that labeled set"""
    reference: str | None = None
    """the folder of that other encoder, for relation"""
    network: str | None = None
    """student, teacher, mean or critic; by default the first that the method exports"""
    stage: int | None = None
    """of the encoder to read, 1 for the first; by default the last"""
    tokens: Literal["class", "mean", "patches"] | None = None
    """of a transformer to read; by default what it pools itself"""
    k: int | None = None
    """neighbors, by default 20"""
    temperature: float = 0.07
    """of the neighbors' votes"""
    labels_per_class: int = 10
    """in the second round, with few labels"""
    draws: int = 5
    """of those few labels"""
    finetune_steps: int = 800
    """of fine-tuning, 128 images each"""
    finetune_lr: float = 1e-3
    """its learning rate"""
    cache: bool = True
    """whether features are kept in the run folder, and taken from there"""
    seed: int = 0
    device: str | None = None


def run(arguments: list[str]) -> None:
    """Prints tables of scores, and the peak memory."""
    flags = parse_flags(Evaluate, "evaluate", arguments, Evaluate.__doc__ or "")
    from sanslabel.cli.tables import print_scores
    from sanslabel.evaluation import FineTuning
    from sanslabel.memory_limits import peak_memory

    options = vars(flags) | {"finetuning": FineTuning(steps=flags.finetune_steps, lr=flags.finetune_lr)}
    for name in ("run", "finetune_steps", "finetune_lr"):
        del options[name]
    with joined_command():
        print_scores(flags.run, **options)
        if peak := peak_memory():
            print(f"Peak memory {peak / 2**30:.2f} GiB")
