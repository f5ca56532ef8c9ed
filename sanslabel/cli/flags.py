"""What each command can be told: a field is a flag, and the sentence below it its help."""

from __future__ import annotations

from contextlib import redirect_stderr
from dataclasses import dataclass, fields, is_dataclass
from io import StringIO
from itertools import dropwhile, takewhile
from typing import Any, Literal

from sanslabel.errors import BadInput, suggestion

Protocol = Literal[
    "knn", "linear", "few", "layers", "cluster", "retrieval", "finetune", "transfer", "relation", "invariance"
]


@dataclass(frozen=True)
class Train:
    """Train an encoder on images without labels, and evaluate it where labels exist."""

    data: str | None = None
    """a folder of images, a file or folder of arrays (IDX, CIFAR, .npy, .npz), or fashion (by default), digits,
    fashion-mnist; for --recipe toy, spiral, moons or ring"""
    out: str | None = None
    """the run folder; by default runs/METHOD-DATA-NUMBER"""
    resume: str | None = None
    """a run folder to continue; all else comes from its run.json"""
    recipe: Literal["small", "paper", "toy"] = "small"
    """the numbers for small images without an accelerator, those of the paper, or those for points in a plane"""
    encoder: str | None = None
    """conv, resnet18, resnet34, resnet50, vit_micro, vit_tiny, vit_small, vit_base, mlp or dcgan; by default the
    recipe's"""
    encoder_options: tuple[str, ...] = ()
    """such as patch=4 pool=mean, stem=small, hidden=500,30"""
    epochs: int | None = None
    """passes over the data; by default the recipe's, as for the next two"""
    batch: int | None = None
    """images in one step"""
    lr: float | None = None
    """learning rate, before the recipe scales it with batch and time"""
    chunk: int | None = None
    """images that the encoder works on at a time: large batches in little memory, for one more forward pass"""
    masked: bool = False
    """whether 75 % of the patches go from a view in place of a crop, for methods that embed views"""
    image_size: int | None = None
    """side in pixels of the images that the encoder sees; by default the data's"""
    device: str | None = None
    """cpu, cuda, cuda:1, mps; by default cuda where there is one, else cpu"""
    precision: Literal["float32", "bfloat16"] | None = None
    """by default bfloat16 where the device is fast at it"""
    workers: int | None = None
    """processes that decode images from a folder"""
    cache: Literal["ram", "disk", "none"] | None = None
    """where the decoded images of a folder are kept: in memory for this run, on disk for later ones too, or nowhere; by
    default in memory where there is plenty"""
    on_collapse: Literal["warn", "stop"] = "warn"
    """what to do when nothing is learned: say why, or stop with exit code 5"""
    track: Literal["tensorboard"] | None = None
    """where figures are handed to besides metrics.jsonl"""
    seed: int = 0
    evaluate: bool = True
    """whether to evaluate at the end"""
    sharding: Literal["replicate", "full"] = "replicate"
    """whether each of several processes holds all weights or a part of them"""
    compile: bool = False
    """whether networks run as torch compiles them: minutes at the start, for less time a step where there is a GPU"""
    recompute: bool = False
    """activation checkpointing: a transformer's blocks are computed again in the backward pass, which takes the memory
    of one block, for one more forward pass"""
    profile: bool = False
    """whether to write a trace of a few steps, trace.json.gz, for chrome://tracing or ui.perfetto.dev"""
    timeout: float = 600.0
    """seconds that one of several processes waits for another before it gives up"""


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


@dataclass(frozen=True)
class Sample:
    """Draw new images of a run's model as a PNG."""

    run: str
    """the run folder"""
    n: int | None = None
    """images, 64 by default; for --interpolate rows (8), for --reconstruct columns (16)"""
    interpolate: bool = False
    """whether to walk from one code to another, in each row"""
    reconstruct: bool = False
    """whether to show images of --data, what the model was given of each, and what it made of that"""
    data: str | None = None
    """images to reconstruct, by default the run's own, or to walk between, by default latents"""
    out: str | None = None
    """the .png file; by default in the run folder"""
    seed: int = 0
    """the same one gives the same bytes on one device"""
    device: str | None = None


@dataclass(frozen=True)
class Energy:
    """Write the energy of every image, or draw that of a plane."""

    run: str
    """the run folder; with --toy, a method"""
    data: str | None = None
    """images, of their test split if they have one; by default those that the run was trained on"""
    against: str | None = None
    """foreign images, which are to have the higher energies: prints the AUROC"""
    complexity: bool = False
    """whether to take off what an image costs as such, by its compressed size"""
    toy: Literal["spiral", "moons", "ring"] | None = None
    """points to train the method on; its energy is then drawn over the plane, as a PNG"""
    out: str | None = None
    """.csv or .parquet; .png draws the plane of a run on points; by default in the run folder"""
    seed: int = 0
    """of the training on points"""
    device: str | None = None


@dataclass(frozen=True)
class QualityOf:
    """Measure samples of a run's model against test images, by the features of a trained encoder."""

    run: str
    """the run folder of the generative model"""
    encoder: str
    """the run folder of the encoder"""
    data: str | None = None
    """images with a test split; by default those that the run was trained on"""
    n: int = 2000
    """samples, and test images"""
    seed: int = 0
    device: str | None = None


@dataclass(frozen=True)
class Report:
    """Show runs on one page: what they say of themselves, curves, views, scores, a map of the embedding, samples."""

    runs: tuple[str, ...]
    """run folders; several are compared"""
    out: str | None = None
    """the .html file; by default report.html in the first run folder"""
    data: str | None = None
    """images of the map; by default those that the run was trained on"""
    points: int = 5000
    """images in all maps together, of the test split if there is one"""
    seed: int = 0
    device: str | None = None


def parsed(flags: type, command: str, arguments: list[str], description: str) -> Any:
    """An instance of the dataclass `flags`. BadInput in one line for an unknown flag, with the nearest name, or for a
    value that does not fit; --help prints and exits."""
    import tyro

    config = (tyro.conf.PositionalRequiredArgs, tyro.conf.AvoidSubcommands)
    words = StringIO()
    try:
        with redirect_stderr(words):
            found, unknown = tyro.cli(
                flags,
                prog=f"sanslabel {command}",
                args=arguments,
                description=description,
                config=config,
                return_unknown_args=True,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise BadInput(f"{_first(words.getvalue())} (sanslabel {command} --help lists the flags)") from None
    if unknown:
        known = [f"--{name}" for name in _names(found)]
        raise BadInput(f"There is no {unknown[0]!r} here: {suggestion(unknown[0].partition('=')[0], known)}")
    return found


def _first(boxed: str) -> str:
    """What stands between the first two rules of a box, which the console's encoding may draw otherwise."""
    rows = (line.strip("│ ") for line in boxed.splitlines())

    def text(row: str) -> bool:
        return not row.startswith(("╭", "╰", "──", "---"))

    within = dropwhile(text, rows)
    next(within, None)
    return " ".join(takewhile(text, within)).strip()


def _names(flags: Any) -> list[str]:
    """Of all flags that a dataclass makes, those of the method with its name before."""
    return [
        f"{f.name}.{inner}".replace("_", "-") if inner else f.name.replace("_", "-")
        for f in fields(flags)
        for inner in (_names(getattr(flags, f.name)) if is_dataclass(getattr(flags, f.name)) else [""])
    ]
