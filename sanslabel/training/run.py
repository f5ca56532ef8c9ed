"""Training of a method on data, which makes a run folder: `sanslabel train` and `sanslabel.train`."""

from __future__ import annotations

import platform
import textwrap
import time
import warnings
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import fields, replace
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, get_type_hints

import torch

from sanslabel.constraints import check_constraints, check_path
from sanslabel.device import chosen_device
from sanslabel.distributed import all_reduce_max, on_first_process, world_size
from sanslabel.errors import BadInput, DiskError, bad_input_as, suggestion
from sanslabel.field_sentences import field_sentences
from sanslabel.memory_limits import advise_when_out_of_memory, device_memory, peak_memory
from sanslabel.methods.method import Method
from sanslabel.process_group import joined, may_restart, restarted
from sanslabel.recipe import Recipe
from sanslabel.run_config import Plan, Spent
from sanslabel.run_folder import RunFolder, check_network_size, clips, data_of_run
from sanslabel.serialization import from_plain
from sanslabel.settings import RESUMABLE, RecipeName, Settings
from sanslabel.sources import AnyData, Data, Source, TextChoices, data_of, names, open_source, paired
from sanslabel.sources.held_out import without_measured
from sanslabel.sources.pictures.cache import cached
from sanslabel.sources.pictures.images import with_decode_factor
from sanslabel.sources.texts.tokenizer import FILE as VOCABULARY
from sanslabel.sources.texts.tokenizer import Tokenizer
from sanslabel.training.choice import fitted
from sanslabel.training.claim import claim, new_folder
from sanslabel.training.determinism import reproducible
from sanslabel.training.header import print_header
from sanslabel.training.lock import refuse_if_locked
from sanslabel.training.planning import (
    EncoderChoice,
    check_together,
    check_workers,
    fitting_method,
    resolve_method,
    resolve_plan,
)
from sanslabel.training.session import Session, open_session
from sanslabel.training.signals import Stopped
from sanslabel.training.tracker import check_tracker
from sanslabel.version import __version__
from sanslabel.wording import with_arguments


@joined()
def train(
    data: AnyData = "fashion",
    method: str | Method = "simclr",
    *,
    recipe: RecipeName | Recipe = "small",
    encoder: EncoderChoice | None = None,
    out: str | Path | None = None,
    **settings: Any,
) -> RunFolder:
    """Trains an encoder on data without labels, and returns its run folder.

    data: a folder of images or of sounds, a file or folder of arrays, or the name of an embedded set.
    method: a method's name, or an instance with hyper-parameters of your own (also of a class of your own).
    recipe: "small" (small images, no accelerator), "paper", "toy" (points in a plane, such as the set spiral), or one
        of your own.
    encoder: a name, or a name with options: {"name": "vit_micro", "patch": 4}; by default the recipe's. For a method
        that reads several signals, a mapping from signals to such encoders.
    out: the run folder, by default runs/METHOD-DATA-NUMBER. It must not hold a run yet. But if torchrun or SLURM
        restart the command, the run in it continues.
    settings: see the list below.

    If torchrun or srun starts several processes, they train one encoder together. Raises BadInput, DiskError,
    NotFinite, ProcessLost, Collapsed if `on_collapse="stop"`, and Stopped after SIGINT or SIGTERM.
    """
    chosen = _settings(settings)
    data = data_of(
        data,
        labels=chosen.labels,
        skip_unreadable=chosen.skip_unreadable,
        clips=clips(chosen),
        fps=chosen.fps,
        text=_text_choices(chosen),
    )
    check_path("--out", out)
    if out is not None and restarted() and on_first_process((Path(out) / "run.json").is_file):
        return resume(out, method=method, data=data, **{name: getattr(chosen, name) for name in RESUMABLE})
    keeps_recipe = recipe != "small" or set(data.places) <= set(names())
    name, instance, recipe = resolve_method(method, recipe, chosen.lr)
    data = replace(data, signals=instance.signals)
    recipe = replace(recipe, decode_factor=chosen.decode_factor or recipe.decode_factor)
    if out is not None:
        on_first_process(refuse_if_locked, Path(out))
    elif may_restart():
        raise BadInput("--out: name a run folder, so that restarted processes (--max-restarts) find it.")
    device = chosen_device(chosen.device)
    check_together(device, chosen)
    if chosen.image_size is not None:
        data = replace(data, frame_side=round(chosen.image_size * recipe.decode_factor))
    given = open_source(data, "train", image_size=chosen.image_size)
    given = with_decode_factor(given, recipe.decode_factor)
    source = paired(without_measured(given, data) if instance.learns_from_labels else given, chosen.near)
    run = on_first_process(new_folder, Path(out) if out is not None else None, name, source.name)

    def resolve(source: Source, settings: Settings, **outcome: Any) -> tuple[Plan, Method]:
        return resolve_plan(data, source, device, name, instance, recipe, encoder, settings, **outcome)

    with advise_when_out_of_memory(device, "lower --image-size, or choose a smaller --encoder"):
        fit = fitted(source, device, recipe, chosen, resolve, keeps_recipe)
    plan, sized = resolve(fit.source, fit.settings, chosen=fit.chosen, expected=fit.expected)
    plan = replace(plan, held_out=len(given) - len(source))
    return _trained(RunFolder(run, plan, _versions(), spent=None), sized, recipe, fit.source, chosen, fresh=True)


@joined()
def resume(
    run: str | Path, *, method: str | Method | None = None, data: AnyData | None = None, **settings: Any
) -> RunFolder:
    """Continues a run from its newest undamaged checkpoint. The result has the same bits as if the run had never
    stopped. Everything that is not given here comes from its run.json.

    method: for a class of your own, an instance with the same hyper-parameters as at the start.
    data: the present place of the same data, if they were moved.
    settings: device (on another one the bits differ), labels (their present place), skip_unreadable, workers, cache,
        on_collapse, track and profile, see `sanslabel.settings.Settings`.

    Raises BadInput if the data changed, if the method is another one, if the format is newer, or if another process
    trains there.
    """
    chosen, given = _settings(settings, RESUMABLE), None if data is None else data_of(data)
    check_workers(chosen.workers)
    folder = RunFolder.open(run)
    run, plan = folder.path, folder.known_plan
    on_first_process(refuse_if_locked, run)
    recipe, again = folder.recipe(), _same_method(folder, method)
    if folder.versions != _versions():
        warnings.warn(f"{run}: was begun with other versions, {dict(folder.versions)}; bits may differ.", stacklevel=2)
    if plan.world_size != world_size():
        warnings.warn(
            f"{run}: was trained on {plan.world_size} processes and goes on with {world_size()}: samples and "
            "views stay the same, numbers differ by rounding.",
            stacklevel=2,
        )
    plan = replace(
        plan,
        device=str(chosen_device(chosen.device or plan.device)),
        world_size=world_size(),
        workers=plan.workers if chosen.workers is None else chosen.workers,
        cache=plan.cache if chosen.cache is None else chosen.cache,
        skip_unreadable=plan.skip_unreadable or chosen.skip_unreadable,
    )
    here = data_of_run(plan)
    here = replace(here, places=given.places if given else here.places, labels=chosen.labels or here.labels)
    source = folder.training_source(here)
    _check_same_data(source, here, folder, again)
    if not isinstance(method, Method):
        check_network_size(again, plan, source.facts(plan.image_size or None), run / "run.json")
    torch.set_num_threads(plan.threads)
    return _trained(replace(folder, plan=plan), again, recipe, source, chosen, fresh=False)


def _check_same_data(source: Source, data: Data, folder: RunFolder, method: Method) -> None:
    """Raises BadInput for other data than those of the run, or for other labels if its method reads labels."""
    plan = folder.known_plan
    classes = len(source.classes) if plan.classes is None else plan.classes
    labels = plan.labels.sha256 if plan.labels else ""
    if method.learns_from_labels and (len(source.classes), source.labels_sha256) != (classes, labels):
        raise BadInput(f"{data}: has other labels than those that {folder.path} was trained on; start a new run on it.")
    if source.fingerprint != plan.fingerprint:
        raise BadInput(f"{data}: is not the data that {folder.path} was trained on; start a new run on it.")


def _trained(
    folder: RunFolder, method: Method, recipe: Recipe, source: Source, settings: Settings, fresh: bool
) -> RunFolder:
    """Trains to the end, and returns the run folder with the time and memory of all its starts."""
    check_tracker(settings.track)
    plan = folder.known_plan
    saves_memory = plan.chunk is not None or plan.recompute
    device = torch.device(plan.device)
    with reproducible(device, saves_memory), advise_when_out_of_memory(device, _advice(plan)), ExitStack() as stack:
        with nullcontext() if fresh else bad_input_as(folder.path / "run.json", "start a new run"):
            session = open_session(folder.path, plan, method, recipe, source)
        if fresh:
            on_first_process(print_header, session)
        on_first_process(claim, stack, folder, session, fresh)
        session = replace(session, source=cached(source, plan.cache, plan.workers))
        began = time.monotonic()
        try:
            session.follow(settings.on_collapse, settings.track, settings.profile)
        except Stopped:
            _record_spent(session, time.monotonic() - began)
            raise
        return replace(folder, spent=_record_spent(session, time.monotonic() - began))


def _settings(keywords: dict[str, Any], allowed: tuple[str, ...] | None = None) -> Settings:
    """Returns the settings with these keywords. Raises BadInput for an unknown one, and for values that do not fit."""
    known = [field.name for field in fields(Settings)] if allowed is None else list(allowed)
    if unknown := [name for name in keywords if name not in known]:
        raise BadInput(f"There is no setting {unknown[0]!r} here: {suggestion(unknown[0], known)}")
    if isinstance(device := keywords.get("device"), torch.device):
        keywords = {**keywords, "device": str(device)}
    chosen = Settings(**keywords)
    check_constraints(chosen)
    return chosen


def _text_choices(chosen: Settings) -> TextChoices:
    """Returns the choices of texts. The vocabulary is that of the given weights if these come with one. Raises BadInput
    if another one is asked for."""
    text = TextChoices(languages=chosen.languages, vocabulary=chosen.vocabulary, longest=chosen.longest)
    if chosen.weights is None or not (file := Path(chosen.weights) / VOCABULARY).is_file():
        return text
    if chosen.vocabulary is not None:
        raise BadInput("--vocabulary: is that of --weights, whose tokens it numbers; leave --vocabulary out.")
    return replace(text, tokenizer=Tokenizer.open(file))


def _same_method(folder: RunFolder, method: str | Method | None) -> Method:
    """Returns the method of a run that is resumed. Raises BadInput if another one was handed over."""
    plan = folder.known_plan
    if isinstance(method, str) and method != plan.method:
        raise BadInput(
            f"{folder.path}: was trained with {plan.method}, not {method}; leave the method out to continue it."
        )
    if not isinstance(method, Method):
        return folder.method()
    same, recorded = fitting_method(method, plan.inputs), None
    same = same.sized(plan.image_size) if plan.image_size else same
    with suppress(BadInput):  # it is of another class
        recorded = from_plain(type(method), plan.hyperparameters)  # fields that earlier versions lacked have defaults
    if same != recorded:
        raise BadInput(
            f"{folder.path}: was trained with other hyper-parameters of {plan.method}; hand over the same ones."
        )
    return same


def _advice(plan: Plan) -> str:
    """Returns the advice to give when memory runs out."""
    size = " or --image-size" if plan.image_size > 1 else ""
    chunk = "set --chunk" if plan.chunk is None else "lower --chunk"
    return f"lower --batch{size}" + ("" if plan.compile or plan.sharding == "full" else f", or {chunk}")


def _record_spent(session: Session, seconds: float) -> Spent:
    """Adds the time and memory of this start to run.json, and returns the totals of all starts."""
    memory, on_device = all_reduce_max(peak_memory(), device_memory(torch.device(session.plan.device)))
    spent = Spent(seconds=round(seconds, 1), peak_memory=memory, device_memory=on_device)
    return on_first_process(_write_spent, session.run, spent)


def _write_spent(run: Path, now: Spent) -> Spent:
    """Writes the totals and returns them. If they cannot be written, it only warns, since the training itself is
    done."""
    folder = RunFolder.open(run)
    spent = now if folder.spent is None else folder.spent.and_then(now)
    try:
        replace(folder, spent=spent).write()
    except DiskError as error:
        warnings.warn(f"{error} The time that the run took is not recorded.", stacklevel=4)
    return spent


def _versions() -> dict[str, str]:
    """Returns the versions of all software that the bits of a run depend on. Pillow decodes images."""
    import numpy
    import PIL

    return {
        "sanslabel": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": numpy.__version__,
        "pillow": PIL.__version__,
    }


def _keywords(function: Any, names: tuple[str, ...] | None = None) -> Any:
    """Returns the function with a signature that lists each setting with its type and default, in place of
    `**settings`, and with the sentence on each below its docstring. `help` and editors show both."""
    shape, hints = signature(function), get_type_hints(function)
    settings = [field for field in fields(Settings) if names is None or field.name in names]
    types, sentences = get_type_hints(Settings), field_sentences(Settings)
    explicit = [
        p.replace(annotation=hints[p.name]) for p in shape.parameters.values() if p.kind is not Parameter.VAR_KEYWORD
    ]
    explicit += [
        Parameter(field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=types[field.name])
        for field in settings
    ]
    function.__signature__ = shape.replace(parameters=explicit, return_annotation=hints["return"])
    lines = [f"{field.name}: {with_arguments(sentences.get(field.name, ''))}" for field in settings]
    wrapped = [textwrap.fill(line, 110, initial_indent="    ", subsequent_indent="        ") for line in lines]
    function.__doc__ = "\n".join([str(function.__doc__).rstrip(), "", "    Settings:", *wrapped, ""])
    return function


_keywords(train)
_keywords(resume, RESUMABLE)
