"""The settings of a training run, written once: the keywords of `sanslabel.train`, the flags of the command and the
fields of run.json follow from them. This file imports no torch, so that `--help` answers at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from sanslabel.constraints import Bounds, NonNegative, Positive

RecipeName = Literal["small", "paper", "toy"]
Precision = Literal["float32", "bfloat16"]
Cache = Literal["ram", "disk", "none"]
OnCollapse = Literal["warn", "stop"]
Track = Literal["tensorboard"]
Sharding = Literal["replicate", "full"]

Size = Annotated[int, Bounds(least=1, most=1 << 14)]
DecodeFactor = Annotated[float, Bounds(least=1, most=16)]
Epochs = Annotated[int, Bounds(least=1, most=1 << 31)]
BatchSize = Annotated[int, Bounds(least=2, most=1 << 31)]
Chunk = Annotated[int, Bounds(least=1, most=1 << 31)]
Workers = Annotated[int, Bounds(least=0, most=1 << 10)]
Vocabulary = Annotated[int, Bounds(least=259, most=1 << 20)]
Longest = Annotated[int, Bounds(least=2, most=1 << 14)]
Seed = Annotated[int, Bounds(least=-(1 << 63), most=(1 << 63) - 1)]
FrameRate = Annotated[float, Bounds(above=0, most=1000)]

RESUMABLE = ("labels", "skip_unreadable", "device", "workers", "cache", "on_collapse", "track", "profile")
"""settings that may be changed when a run is resumed"""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The choices for a training run, besides its data, method, recipe and encoder."""

    minutes: Annotated[float, Positive] | None = None
    """minutes that the run may take, evaluation included: image size, batch and epochs are chosen so that it ends in
    this time; by default 10, on a GPU 30"""
    labels: str | None = None
    """a CSV or Parquet file with the columns path and label, in place of the labels that folders state; for evaluation,
    and for supervised"""
    near: Annotated[float, NonNegative] | None = None
    """seconds up to which a sample's partner is away: the second view is drawn from another frame of the same shot, or
    from another crop of the same track; for videos, tracks, and folders of which each sub-folder has the frames of a
    clip; by default, and with 0, both views are drawn from one sample"""
    fps: FrameRate | None = None
    """frames a second: the most that are kept of a video, by default all; for folders of frames their rate, by default
    25"""
    skip_unreadable: bool = False
    """go on however many pictures cannot be read; otherwise a run stops at more than 1 %"""
    languages: tuple[str, ...] = ()
    """languages of the source and of the target, as the names of files or folders state them: en fr; needed for texts
    in more than two languages"""
    vocabulary: Vocabulary | None = None
    """most tokens of the vocabulary that is made for texts; by default 4,096"""
    longest: Longest | None = None
    """most tokens of a sentence, with its end; longer ones are left out; by default 64"""
    epochs: Epochs | None = None
    """passes over the data; by default chosen for the data and the machine, for the sets that come with the package the
    recipe's"""
    batch: BatchSize | None = None
    """samples in one step, over all processes; by default chosen as the epochs are"""
    lr: Annotated[float, Positive] | None = None
    """learning rate before the recipe scales it with batch and time; by default the recipe's"""
    chunk: Chunk | None = None
    """samples that the encoder works on at a time: large batches in little memory, for one more forward pass"""
    masked: bool = False
    """mask 75 % of each view's patches and do not crop, for methods that embed views; transformers drop masked tokens,
    convnets see filled ones"""
    image_size: Size | None = None
    """side in pixels of the images that the encoder reads; by default chosen for the data and the machine, for arrays
    the data's"""
    decode_factor: DecodeFactor | None = None
    """side to which larger pictures of files are reduced before crops are drawn, as a factor of the image size; 4.1
    leaves enough pixels for crops of 8 % of the area, but takes memory and time; by default the recipe's"""
    weights: str | None = None
    """weights that the encoder starts from: a run folder, a .safetensors file, or a folder with model.safetensors; by
    default random ones"""
    allow_missing: bool = False
    """start from --weights although they have less than 90 % of the encoder's numbers"""
    teacher: str | None = None
    """the run folder of a trained encoder that the method learns from, for methods with a given teacher"""
    device: str | None = None
    """cpu, cuda, cuda:1 or mps; by default cuda if there is one, else cpu"""
    precision: Precision | None = None
    """bfloat16 (autocast) or float32; by default bfloat16 if the device is fast at it"""
    workers: Workers | None = None
    """processes that decode images; by default one for each two cores, none for arrays"""
    cache: Cache | None = None
    """cache of decoded images of a folder: in memory for this run, on disk for later runs too, or none; by default in
    memory if several epochs read images that fill at most a quarter of it"""
    seed: Seed = 0
    """seed of weights, order and views, any whole number"""
    on_collapse: OnCollapse = "warn"
    """if the figures show that nothing is learned: warn once of each reason, or stop with exit code 5"""
    track: Track | None = None
    """a tracker that receives the figures besides metrics.jsonl: tensorboard writes event files to RUN/tensorboard"""
    sharding: Sharding = "replicate"
    """replicate: each of several processes holds all weights; full: each holds a slice, which makes room for large
    transformers"""
    compile: bool = False
    """compile the networks with torch.compile: minutes at the start, less time for each step on a GPU; needs a C++
    compiler"""
    recompute: bool = False
    """activation checkpointing: compute a transformer's blocks again in the backward pass; takes the memory of one
    block, for one more forward pass"""
    profile: bool = False
    """write a trace of a few steps to RUN/trace.json.gz, for chrome://tracing or ui.perfetto.dev"""
