"""From data and method to a run folder: what `sanslabel train` and `sanslabel.train` do."""

from __future__ import annotations

import os
import platform
import time
import warnings
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import torch

import sanslabel
from sanslabel import checkpoint, encoders, methods
from sanslabel.device import Precision, Sharding, chosen_device, cores, fast_precision
from sanslabel.distributed import all_reduce_max, on_first_process, world_size
from sanslabel.errors import BadInput, DiskError, bad_input_as
from sanslabel.memory_limits import advise_when_out_of_memory, device_memory, peak_memory
from sanslabel.methods.method import Method, check_network_size
from sanslabel.process_group import joined, may_restart, restarted
from sanslabel.recipe import Recipe
from sanslabel.run_config import BOUNDS, Cache, Plan, Spent
from sanslabel.run_folder import RunFolder
from sanslabel.serialization import to_plain
from sanslabel.sources import NAMES, Source, open_source
from sanslabel.sources.cache import cached, fitting
from sanslabel.training.compilation import check_compiler
from sanslabel.training.determinism import reproducible
from sanslabel.training.disk_space import check_disk_space
from sanslabel.training.lock import locked, refuse_if_held
from sanslabel.training.session import OnCollapse, Session, opened
from sanslabel.training.signals import Stopped
from sanslabel.training.tracker import Track, check
from sanslabel.verdict import Verdict

MASKED_PATCH = 4
"""pixels a side of a masked patch where the encoder has no patches of its own"""


@dataclass(frozen=True)
class Run:
    """A finished run and where it lies."""

    path: Path
    plan: Plan
    seconds: float
    """spent on training, not counting before a resume"""
    bad_samples: int
    """that could not be read and were replaced"""
    verdict: Verdict
    """what its figures say at the end"""

    def encoder(self, network: str | None = None) -> encoders.Encoder:
        """The trained encoder: images (N, C, H, W) in [0, 1] -> (N, D)."""
        return checkpoint.load_encoder(self.path, network)


@joined()
def train(
    data: str | Path = "fashion",
    *,
    method: str | Method = "simclr",
    recipe: Literal["small", "paper", "toy"] | Recipe = "small",
    encoder: str | Mapping[str, Any] | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    chunk: int | None = None,
    masked: bool = False,
    image_size: int | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    precision: Precision | None = None,
    workers: int | None = None,
    cache: Cache | None = None,
    seed: int = 0,
    on_collapse: OnCollapse = "warn",
    track: Track | None = None,
    sharding: Sharding = "replicate",
    compile: bool = False,
    recompute: bool = False,
    profile: bool = False,
) -> Run:
    """Trains an encoder on images without labels and writes a run folder.

    data: a folder of images, a file or folder of arrays, or the name of an embedded set.
    method: a method's name, or an instance with numbers of its own (also of a class of one's own).
    recipe: "small" (small images, no accelerator), "paper", "toy" (points in a plane, such as the set spiral), or one's
        own; `epochs`, `batch`, `lr` (the learning rate before scaling) and `encoder` replace what it says.
    encoder: a name, or a name with options: {"name": "vit_micro", "patch": 4}.
    chunk: images that the encoder works on at a time, for large batches in little memory.
    masked: whether views have 75 % of their patches masked in place of being cropped: a transformer drops their tokens,
        a convnet sees them filled.
    image_size: side of the images that the encoder sees, in pixels; by default that of the data.
    out: the run folder, which must not exist, unless torchrun or SLURM start the command anew: then the run in it goes
        on. By default runs/METHOD-DATA-NUMBER.
    precision: "bfloat16" (autocast) where the device is fast at it, else "float32".
    workers: processes that decode images from a folder; by default one for each two cores, none for arrays.
    cache: where the decoded images of a folder are kept: "ram" for this run, "disk" (the user's cache folder) for later
        ones, too, or "none"; by default "ram" for several epochs over images that take up to a quarter of it.
    on_collapse: what to do when the figures say that nothing is learned: warn once of each reason, or stop with it.
    track: "tensorboard" writes event files into RUN/tensorboard, too.
    sharding: whether each of several processes holds all weights, or a part of them ("full"), which makes room for
        large transformers.
    compile: whether networks run as `torch.compile` makes them; it needs a C++ compiler, and minutes at the start.
    recompute: whether a transformer's blocks are computed again in the backward pass (activation checkpointing): the
        memory of one block, for one more forward pass.
    profile: whether to write a trace of a few steps, RUN/trace.json.gz.
    Started by torchrun or srun, all processes train one encoder. Raises BadInput, DiskError, NotFinite, ProcessLost,
    Collapsed where asked to, and Stopped after SIGINT or SIGTERM.
    """
    if out is not None and restarted() and on_first_process((Path(out) / "run.json").is_file):
        again = {"device": device, "workers": workers, "cache": cache}
        again |= {"on_collapse": on_collapse, "track": track, "profile": profile}
        return resume(out, method=method, data=data, **again)
    name, method, recipe = _resolved(method, recipe)
    _check_numbers(epochs=epochs, batch=batch, chunk=chunk, image_size=image_size, lr=lr, workers=workers)
    _check_numbers(seed=seed)
    if out is not None:
        on_first_process(refuse_if_held, Path(out))
    elif may_restart():
        raise BadInput("--out: name a run folder, so that processes that are started anew (--max-restarts) find it.")
    _check_word("sharding", str(sharding), Sharding)
    _check_word("cache", cache, Cache)
    _check_word("precision", precision, Precision)
    if lr is not None:
        optimizers = {player: replace(o, lr=lr) for player, o in recipe.optimizers.items()}
        recipe = replace(recipe, optimizer=optimizers)
    where = chosen_device(device)
    _check_together(where, sharding=sharding, chunk=chunk, compile=compile, recompute=recompute)
    source = open_source(data, "train", image_size=image_size)
    if len(source) < 2:
        raise BadInput(f"{data}: holds one image; what belongs together can be learned from two on.")
    size = image_size or max(source.height, source.width)
    config = _encoder_config(encoder or _default_encoder(recipe, size), source, size)
    if masked:
        method = method.masked(config.get("patch", MASKED_PATCH))
    plan = Plan(
        data=data if isinstance(data, str) and data in NAMES else str(Path(data).resolve()),
        fingerprint=source.fingerprint,
        samples=len(source),
        method=name,
        hyperparameters=to_plain(method.sized(size)),
        recipe=to_plain(replace(recipe, hyperparameters={})),
        encoder=config,
        image_size=size,
        epochs=epochs or recipe.epochs,
        batch=min(batch or recipe.batch, len(source) // world_size() * world_size()),
        chunk=chunk,
        workers=_workers(source, where) if workers is None else workers,
        seed=seed,
        world_size=world_size(),
        device=str(where),
        precision=precision or fast_precision(where),
        threads=torch.get_num_threads(),
        sharding=sharding,
        compile=compile,
        recompute=recompute,
        cache=on_first_process(fitting, source, epochs or recipe.epochs) if cache is None else cache,
        classes=len(source.classes),
    )
    if plan.batch % plan.world_size:
        raise BadInput(
            f"--batch {plan.batch}: {plan.world_size} processes cannot share it; give a multiple of that number."
        )
    run = on_first_process(_fresh_folder, Path(out) if out is not None else None, name, source.name)
    return _trained(run, plan, method.sized(size), recipe, source, on_collapse, track, profile, fresh=True)


@joined()
def resume(
    run: str | Path,
    *,
    method: str | Method | None = None,
    data: str | Path | None = None,
    device: str | None = None,
    on_collapse: OnCollapse = "warn",
    track: Track | None = None,
    workers: int | None = None,
    cache: Cache | None = None,
    profile: bool = False,
) -> Run:
    """Continues a run from its newest whole checkpoint to the same bits as if it had never stopped; everything comes
    from its run.json.

    method: one's own is handed over again, with the same numbers. data: where the same data lie now. device: another
    one, on which the bits will differ. workers, cache: others, which change no bit. on_collapse, track, profile: see
    `train`. BadInput for changed data, another method or a newer format, and where another process trains there.
    """
    folder = RunFolder.open(run)
    run, plan = folder.path, folder.known_plan
    _check_numbers(workers=workers)
    _check_word("cache", cache, Cache)
    on_first_process(refuse_if_held, run)
    recipe = folder.recipe()
    if isinstance(method, Method):
        again = method.sized(plan.image_size)
    elif isinstance(method, str) and method != plan.method:
        raise BadInput(f"{run}: was trained with {plan.method}, not {method}; leave the method out to continue it.")
    else:
        again = folder.method()
    if to_plain(again) != plan.hyperparameters:
        raise BadInput(f"{run}: was trained with other numbers of {plan.method}; hand over the same to continue it.")
    if folder.versions != _versions():
        warnings.warn(f"{run}: was begun with {dict(folder.versions)}; bits may differ.", stacklevel=2)
    if plan.world_size != world_size():
        warnings.warn(
            f"{run}: was trained on {plan.world_size} processes and goes on with {world_size()}: the same samples and "
            "views, numbers to rounding.",
            stacklevel=2,
        )
    plan = replace(plan, device=str(chosen_device(device or plan.device)), world_size=world_size())
    plan = plan if workers is None else replace(plan, workers=workers)
    plan = plan if cache is None else replace(plan, cache=cache)
    source = open_source(data or plan.data, "train", image_size=plan.image_size)
    if source.fingerprint != plan.fingerprint:
        raise BadInput(f"{data or plan.data}: is not the data that {run} was trained on; start a new run on it.")
    if not isinstance(method, Method):
        check_network_size(again, plan.encoder, source.facts(plan.image_size), run / "run.json")
    torch.set_num_threads(plan.threads)
    return _trained(run, plan, again, recipe, source, on_collapse, track, profile, fresh=False)


def _trained(
    run: Path,
    plan: Plan,
    method: Method,
    recipe: Recipe,
    source: Source,
    on_collapse: OnCollapse,
    track: Track | None,
    profile: bool,
    fresh: bool,
) -> Run:
    check(track)
    frugal = plan.chunk is not None or plan.recompute  # which are asked for to save memory
    device = torch.device(plan.device)
    with reproducible(device, frugal), advise_when_out_of_memory(device, _to_save_memory(plan)), ExitStack() as held:
        with nullcontext() if fresh else bad_input_as(run / "run.json", "start a new run"):
            session = opened(run, plan, method, recipe, source)
        on_first_process(_begin, held, session, fresh)
        session = replace(session, source=cached(source, plan.cache, plan.workers))
        began = time.monotonic()
        try:
            bad_samples, verdict = session.follow(on_collapse, track, profile)
        except Stopped:
            _account(session, time.monotonic() - began)
            raise
        seconds = time.monotonic() - began
        _account(session, seconds)
    return Run(run, plan, seconds, bad_samples, verdict)


def _to_save_memory(plan: Plan) -> str:
    """What is left to do."""
    chunk = "set --chunk" if plan.chunk is None else "lower --chunk"
    return "lower --batch" if plan.compile or plan.sharding == "full" else f"lower --batch, or {chunk}"


def _account(session: Session, seconds: float) -> None:
    """Adds what this start of a run took to run.json."""
    most = all_reduce_max(peak_memory(), device_memory(torch.device(session.plan.device)))
    on_first_process(
        _write_spent, session.run, Spent(seconds=round(seconds, 1), peak_memory=most[0], device_memory=most[1])
    )


def _write_spent(run: Path, now: Spent) -> None:
    """Adds the time and memory of this start to run.json. A disk that refuses is warned of: the run itself is done."""
    folder = RunFolder.open(run)
    spent = now if folder.spent is None else folder.spent.and_then(now)
    try:
        replace(folder, spent=spent).write()
    except DiskError as error:
        warnings.warn(f"{error} The time that the run took is not recorded.", stacklevel=4)


def _resolved(method: str | Method, recipe: str | Recipe) -> tuple[str, Method, Recipe]:
    """The method's name, the method and the recipe, of what `train` is told."""
    chosen = methods.method_class(method) if isinstance(method, str) else type(method)
    recipe = recipe if isinstance(recipe, Recipe) else chosen.recipe_named(recipe)
    name = chosen.__module__.rpartition(".")[2] if _is_ours(chosen) else chosen.__name__
    return name, chosen.under(recipe) if isinstance(method, str) else method, recipe


def _encoder_config(encoder: str | Mapping[str, Any], source: Source, size: int) -> dict[str, Any]:
    """What `encoders.build` makes the encoder from, every option resolved."""
    options = encoders.encoder_options(encoder)
    if options.pop("pretrained", False):
        raise BadInput("--encoder-options pretrained: training starts from fresh weights; leave it out.")
    signed = encoders.encoder_class(str(options.get("name"))).signed
    scaling = ((0.5,) * source.channels,) * 2 if signed else source.standardization()
    options = {"scaling": scaling, **options}
    with torch.device("meta"):  # names and numbers alone, no weights
        return encoders.build(**options, channels=source.channels, image_size=size).config


def _default_encoder(recipe: Recipe, size: int) -> str | Mapping[str, Any]:
    """The recipe's; a ResNet-18 where that is meant for small images and these are not."""
    return "resnet18" if recipe.encoder == "conv" and size > 64 else recipe.encoder


def _check_numbers(**numbers: float | None) -> None:
    for name, number in numbers.items():
        low, high = BOUNDS.get(name, (0, float("inf")))
        if number is not None and not (low <= number <= high and (name != "lr" or 0 < number < high)):
            wanted = "a finite number, above 0" if name == "lr" else f"a number, at least {low} and at most {high}"
            raise BadInput(f"--{name.replace('_', '-')} {number}: must be {wanted}.")


def _check_together(
    device: torch.device, sharding: Sharding, chunk: int | None, compile: bool, recompute: bool
) -> None:
    """BadInput for what does not go together, or cannot be here."""
    if device.index is not None and world_size() > 1:
        raise BadInput(f"--device {device}: each of several processes takes a GPU of its own; name the kind alone.")
    if sharding == "full" and chunk is not None:
        raise BadInput("--chunk: does not go with --sharding full; leave one of them out.")
    if compile:
        if chunk is not None or recompute or sharding == "full":
            raise BadInput("--compile: does not go with --chunk, --recompute or --sharding full; leave it out.")
        check_compiler(device)


def _check_word(name: str, word: str | None, words: Any) -> None:
    """BadInput for one that is none of a Literal's."""
    if word is not None and word not in get_args(words):
        *others, last = get_args(words)
        raise BadInput(f"--{name} {word}: there are {', '.join(others)} and {last}.")


def _versions() -> dict[str, str]:
    """What decides bits besides the plan: decoding is Pillow's."""
    import numpy
    import PIL

    ours = {"sanslabel": sanslabel.__version__, "python": platform.python_version()}
    return ours | {"torch": str(torch.__version__), "numpy": numpy.__version__, "pillow": PIL.__version__}


def _is_ours(chosen: type[Method]) -> bool:
    return chosen.__module__.rpartition(".")[0] == methods.__name__


def _begun(run: Path) -> bool:
    """Whether a folder holds more than a run leaves that was killed before it began."""
    return bool({path.name for path in run.iterdir()} - {".lock", ".run.json.part"})


def _begin(held: ExitStack, session: Session, fresh: bool) -> None:
    """Takes the folder, for as long as it is held, clears what a run that was killed in the middle of writing has left,
    and writes run.json."""
    run = session.run
    held.enter_context(locked(run))
    if fresh and _begun(run):
        raise BadInput(f"{run}: another process began a run here; name another folder with --out.")
    try:
        checkpoint.sweep(run)
        checkpoint.sweep(run / "checkpoints")
    except OSError as error:
        raise DiskError(f"{run}: what an earlier start left could not be removed ({error}).") from error
    check_disk_space(run, session.net, session.players)
    if fresh:
        RunFolder(run, session.plan, _versions(), spent=None).write()


def _fresh_folder(out: Path | None, method: str, data: str) -> Path:
    """For a new run. BadInput where `out` is not free."""
    if out is None:
        return next(p for n in range(1, 10**6) if not (p := Path("runs") / f"{method}-{data}-{n}").exists())
    if out.exists() and (not out.is_dir() or _begun(out)):
        refuse_if_held(out)  # by one that has begun since
        raise BadInput(f"{out}: exists already; name another folder with --out, or continue it with --resume {out}.")
    return out


def _workers(source: Source, device: torch.device) -> int:
    """Half of the cores, which compute besides; beside a GPU this process's share of all but one: torchrun allows each
    process one thread, so that threads say nothing there."""
    if not source.decodes:
        return 0
    if device.type == "cpu":
        return max(1, torch.get_num_threads() // 2)
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1)
