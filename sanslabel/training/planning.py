"""The plan of a run, made from the settings that a person chose: every default is resolved in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

import torch

from sanslabel import checkpoint, encoders, methods
from sanslabel.device import cores, fast_precision
from sanslabel.distributed import on_first_process, world_size
from sanslabel.encoders.timm import PREFIX
from sanslabel.errors import BadInput, BadValue, suggestion
from sanslabel.given import Given, open_weights
from sanslabel.inputs import ImageSpec, InputSpec, SpectrogramSpec, TextSpec
from sanslabel.methods.method import Method
from sanslabel.recipe import Recipe
from sanslabel.run_config import Expected, GivenNetwork, LabelsGiven, Plan
from sanslabel.serialization import to_plain
from sanslabel.settings import RecipeName, Settings
from sanslabel.sources import AnyData, Source, locations
from sanslabel.sources.pictures.cache import fitting
from sanslabel.training.compilation import check_compiler

MASKED_PATCH = 4
"""side in pixels of a masked patch if the encoder has no patches of its own"""

FEW_WORKERS = 16
"""number of worker processes that any machine can have"""

EncoderChoice = str | Mapping[str, Any]
"""an encoder's name; a name with options, {"name": "vit_micro", "patch": 4}; or one of these for each signal,
{"image": "conv", "audio": "mlp"}"""


def resolve_method(method: str | Method, recipe: RecipeName | Recipe, lr: float | None) -> tuple[str, Method, Recipe]:
    """Returns the method's name, the method and the recipe. For methods of the package or of SANSLABEL_PATH, the name
    is that of the file, else that of the class. Raises BadInput for an unknown method or recipe."""
    if not isinstance(method, str | Method):
        raise BadValue("--method", method, "must be a method's name, or an instance such as SimCLR()")
    if not isinstance(recipe, str | Recipe):
        raise BadValue("--recipe", recipe, "must be a recipe, or small, paper or toy")
    method_class = methods.method_class(method) if isinstance(method, str) else type(method)
    recipe = recipe if isinstance(recipe, Recipe) else method_class.recipe_named(recipe)
    if isinstance(method, str):
        method = method_class.under(recipe)
    if lr is not None:
        optimizers = {player: replace(optimizer, lr=lr) for player, optimizer in recipe.optimizers.items()}
        recipe = replace(recipe, optimizer=optimizers)
    package, _, file = method_class.__module__.rpartition(".")
    return file if package == methods.__name__ else method_class.__name__, method, recipe


def resolve_plan(
    data: AnyData,
    source: Source,
    device: torch.device,
    name: str,
    method: Method,
    recipe: Recipe,
    encoder: EncoderChoice | None,
    settings: Settings,
    chosen: Mapping[str, str] | None = None,
    expected: Expected | None = None,
) -> tuple[Plan, Method]:
    """Returns the plan of a run, and the method with views of the images' size. Raises BadInput if settings contradict
    each other, or if the machine or the data do not allow them."""
    image = source.inputs.get("image")
    if len(source) < 2:
        why = f" ({' '.join(source.remarks).removesuffix('.')})" if source.remarks else ""
        raise BadInput(f"{data}: has one {source.noun}{why}; training needs at least two.")
    if image is None and settings.image_size is not None:
        raise BadInput(f"--image-size: is a size of pictures, and {data} has none; leave it out.")
    source.order_of(method.stretch)
    if settings.near and method.stretch > 1:
        raise BadInput(f"--near: {name} compares frames within a batch and reads no partners; leave --near out.")
    size = settings.image_size or (max(image.height, image.width) if isinstance(image, ImageSpec) else 0)
    weights, teacher = _given(settings.weights), _given(settings.teacher)
    _check_given(name, method, settings)
    if encoder is not None:
        _check_fresh(encoder)
    encoder = encoder or _encoder_of(weights) or _default_encoder(recipe, size)
    method = fitting_method(method, source.inputs)
    configs = encoder_configs(method, encoder, source, size, recipe.encoder)
    if settings.masked:
        method = method.masked(next(iter(configs.values())).get("patch", MASKED_PATCH))
    method, epochs = method.sized(size) if size else method, settings.epochs or recipe.epochs
    plan = Plan(
        data=places[0] if len(places := locations(data)) == 1 else places,
        fingerprint=source.fingerprint,
        samples=len(source),
        method=name,
        hyperparameters=to_plain(method),
        recipe=to_plain(replace(recipe, hyperparameters={})),
        encoder=next(iter(configs.values())),
        image_size=size,
        epochs=epochs,
        batch=min(settings.batch or recipe.batch, len(source) // world_size() * world_size()),
        chunk=settings.chunk,
        workers=_workers(source, device) if settings.workers is None else settings.workers,
        seed=settings.seed,
        world_size=world_size(),
        device=str(device),
        precision=settings.precision or fast_precision(device),
        threads=torch.get_num_threads(),
        sharding=settings.sharding,
        compile=settings.compile,
        recompute=settings.recompute,
        cache=on_first_process(fitting, source, epochs) if settings.cache is None else settings.cache,
        classes=len(source.classes),
        encoders=configs if len(configs) > 1 else {},
        weights=None if weights is None else _named(weights),
        allow_missing=settings.allow_missing,
        teacher=None if teacher is None else _named(teacher),
        labels=_labels(settings.labels, source),
        skip_unreadable=settings.skip_unreadable,
        near=settings.near,
        fps=settings.fps,
        frame_side=None if source.pictures is None else source.pictures.store.side,
        languages=settings.languages,
        copies=False,
        inputs=dict(source.facts(size or None).inputs),
        noun=source.noun,
        remarks=source.remarks,
        chosen=dict(chosen or {}),
        expected=expected,
    )
    if plan.batch % plan.world_size:
        raise BadInput(
            f"--batch {plan.batch}: {plan.world_size} processes cannot share it; give a multiple of that number."
        )
    return plan, method


def fitting_method(method: Method, inputs: Mapping[str, InputSpec]) -> Method:
    """Returns the method for data with these signals. If they have sound and no pictures, its views are those of sound.
    Raises BadInput if the method learns from pictures alone."""
    sound = inputs.get("audio")
    if "image" in inputs or not isinstance(sound, SpectrogramSpec) or method.signals_read != ("image",):
        return method
    return method.of_sound(sound)


def encoder_configs(
    method: Method, encoder: EncoderChoice, source: Source, size: int, others: EncoderChoice | None = None
) -> dict[str, dict[str, Any]]:
    """Returns the configuration of the encoder of each signal that has one, with every option resolved.

    A choice without signals is that of the first signal, such as the image. Further signals have the encoder `others`,
    by default the same. Raises BadInput for a signal that the data lack, or for which `encoder` names no encoder.
    """
    inputs = source.facts(size or None).inputs
    by_signal = encoder if isinstance(encoder, Mapping) and "name" not in encoder else None
    if missing := [signal for signal in method.signals_read if signal not in inputs]:
        raise BadInput(
            f"{source.name}: has no {missing[0]}, which the method reads; choose other data, or another method."
        )
    configs = {}
    for signal in method.encoded_signals:
        if by_signal is not None and signal not in by_signal:
            raise BadInput(
                f"--encoder: names no encoder for {signal}; give one for each of {', '.join(method.encoded_signals)}."
            )
        plain = encoder if others is None or not configs else others
        choice = plain if by_signal is None else by_signal[signal]
        configs[signal] = _encoder_config(choice, signal, inputs[signal], source)
    return configs


def check_workers(workers: int | None) -> None:
    """Raises BadInput for so many worker processes that they would only take memory."""
    most = max(FEW_WORKERS, 4 * cores())
    if workers is not None and workers > most:
        raise BadInput(
            f"--workers {workers}: there are {cores()} cores here, and more processes than {most} would only take"
            f" memory; give at most {most}."
        )


def check_together(device: torch.device, settings: Settings) -> None:
    """Raises BadInput for settings that cannot be combined, or that are not possible on this machine."""
    check_workers(settings.workers)
    if device.index is not None and world_size() > 1:
        raise BadInput(f"--device {device}: several processes take one GPU each; give the kind without a number.")
    if settings.sharding == "full" and settings.chunk is not None:
        raise BadInput("--chunk: does not go with --sharding full; leave one of them out.")
    if settings.compile:
        if settings.chunk is not None or settings.recompute or settings.sharding == "full":
            raise BadInput("--compile: does not go with --chunk, --recompute or --sharding full; leave it out.")
        check_compiler(device)


def _encoder_config(encoder: EncoderChoice, signal: str, spec: InputSpec, source: Source) -> dict[str, Any]:
    """Returns the arguments of `encoders.build` for a signal of the data, with every option resolved.

    The option `scaling` may be a word: "raw" leaves pixels in [0, 1], "signed" brings them to [-1, 1], and
    "standardized", the default of most encoders, to mean 0 and deviation 1. Spectrograms are always standardized.
    Raises BadInput for another word.
    """
    options = encoders.encoder_options(encoder)
    encoder_class = encoders.encoder_class(str(options.get("name")))
    scaling = options.get("scaling", "signed" if encoder_class.signed else "standardized")
    if isinstance(scaling, str) and scaling not in (known := ["raw", "signed", "standardized"]):
        raise BadInput(f"--encoder-options: there is no scaling {scaling!r}: {suggestion(scaling, known)}")
    if isinstance(spec, ImageSpec) and scaling in ("signed", "raw"):
        options["scaling"] = ((0.5,) * spec.channels,) * 2 if scaling == "signed" else None
    elif signal == "image" and scaling == "standardized":
        options["scaling"] = source.standardization()
    elif isinstance(spec, SpectrogramSpec) and encoder_class.rectangles:
        options["scaling"] = source.standardization(signal=signal)
    arguments: dict[str, Any] = {**options, **spec.arguments}
    with torch.device("meta"):  # only names and shapes, no weights
        return encoders.build(**arguments).config


def _check_fresh(encoder: EncoderChoice) -> None:
    """Raises BadInput if the choice asks for pretrained weights of timm: nothing is fetched for training."""
    several = isinstance(encoder, Mapping) and "name" not in encoder
    for choice in encoder.values() if several else [encoder]:  # pyright: ignore[reportAttributeAccessIssue]
        options = encoders.encoder_options(choice)
        name, _, tag = str(options.get("name")).partition(".")
        advice = "to start from weights that you have as a .safetensors file, name it with --weights"
        if name.startswith(PREFIX) and tag:
            raise BadInput(
                f"--encoder {name}.{tag}: .{tag} names pretrained weights, which are not fetched for training, since "
                f"training starts from fresh weights; name {name}, and {advice}."
            )
        if options.get("pretrained", False) is not False:
            raise BadInput(
                f"--encoder-options pretrained: training starts from fresh weights; leave it out, and {advice}."
            )


def _labels(labels: str | None, source: Source) -> LabelsGiven | None:
    return None if labels is None else LabelsGiven(path=str(Path(labels).resolve()), sha256=source.labels_sha256)


def _given(source: str | None) -> Given | None:
    return None if source is None else open_weights(source)


def _named(given: Given) -> GivenNetwork:
    path = (given.run or given.path).resolve()
    return GivenNetwork(path=str(path), sha256=given.sha256, license=given.license)


def _check_given(name: str, method: Method, settings: Settings) -> None:
    """Raises BadInput if the method cannot use a given network, or lacks one that it needs."""
    if settings.weights is not None and len(method.encoded_signals) > 1:
        raise BadInput(
            f"--weights: {name} has an encoder for each of {', '.join(method.encoded_signals)}; leave it out."
        )
    if settings.allow_missing and settings.weights is None:
        raise BadInput("--allow-missing: applies only to --weights; add --weights, or leave --allow-missing out.")
    argument = signature(method.networks).parameters.get("teacher")
    if settings.teacher is not None and argument is None:
        raise BadInput(
            f"--teacher: {name} does not learn from a given network; leave it out, or choose another method."
        )
    if settings.teacher is None and argument is not None and argument.default is Parameter.empty:
        raise BadInput(f"--teacher: {name} learns from a trained encoder; name its run folder.")


def _encoder_of(weights: Given | None) -> EncoderChoice | None:
    """Returns the encoder of the run that the given weights come from, without the shape and scaling of its input.
    Returns None if the weights do not come from a run."""
    if weights is None or weights.run is None:
        return None
    config = checkpoint.exported_config(weights.run)
    shapes = {name for kind in (ImageSpec, SpectrogramSpec, TextSpec) for name in kind.argument_names}
    of_input = {*shapes, "scaling", "levels", "tokenizer"}
    return {name: value for name, value in config.items() if name not in of_input}


def _default_encoder(recipe: Recipe, size: int) -> EncoderChoice:
    """Returns the recipe's encoder, or a ResNet-18 if that encoder is `conv` and the images are larger than 64
    pixels."""
    return "resnet18" if recipe.encoder == "conv" and size > 64 else recipe.encoder


def _workers(source: Source, device: torch.device) -> int:
    """Returns the number of processes that decode. On the CPU it is half of the threads, since the others compute.
    Beside a GPU it is this process's share of the cores, less one. There, threads are no measure: torchrun allows each
    process one thread, whatever the number of cores."""
    if not source.decodes:
        return 0
    if device.type == "cpu":
        return max(1, torch.get_num_threads() // 2)
    return max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) - 1)
