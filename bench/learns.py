"""Measures how well every method learns: python -m bench.learns [METHOD …]

Trains each method on 10,000 images of Fashion-MNIST without labels, for a fixed number of epochs that takes at most
three minutes on two cores (token methods five, data2vec and I-JEPA ten), and evaluates the encoder of the last step:
probes are fitted on the same 10,000 images with labels and measured on the 10,000 test images. Measures in the same way
the networks that each training starts from, pixels, PCA, and the supervised reference with every encoder.

Writes one line per finished measurement, which a later call skips, and renders docs/learning.md from them. With
--device cuda it is the longer recipe: all 60,000 images, 100 epochs and larger encoders, rendered as a table of its own
that names the device. With --held-out it trains on four fifths of the training images and measures on the last fifth,
so that recipes are tuned without the test images. It prints that table and has a file of results of its own.

With --times N it trains N times as long, for methods that gain nothing in the time of the table. Their lines are in
longer.jsonl, and docs/learning.md has a table of them.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import numpy as np
import torch
from torch import Tensor

import sanslabel
from bench.learning_page import page, tables
from bench.learning_tasks import (
    BASELINES,
    CPU,
    CUDA,
    SEEDS,
    Setting,
    Task,
    missing,
    of_images,
    read_lines,
    tasks,
    with_present_settings,
)
from bench.machine import commit
from sanslabel import checkpoint, methods
from sanslabel.evaluation import pixels, represent, scores_of_features, settle_
from sanslabel.evaluation.features import Division, Features
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.evaluation.protocols.linear import Linear
from sanslabel.randomness import permutation
from sanslabel.run_folder import RunFolder
from sanslabel.settings import Settings
from sanslabel.sources import Request, Source, data_of, open_source
from sanslabel.training.planning import resolve_method, resolve_plan
from sanslabel.training.session import Session, open_session

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "bench" / "results"
ONE_DRAW = (KNN(draws=1), Linear(draws=1))
Scores = dict[str, dict[str, float]]
"""representation -> protocol -> accuracy in %"""


def lines_of(group: list[Task], setting: Setting, data: str, device: str, threads: int) -> list[dict[str, Any]]:
    """Returns a line with the accuracies in % for each task. Starts with the same weights are measured once."""
    torch.set_num_threads(threads)
    known: dict[str, Scores] = {}
    lines = []
    for task in group:
        about = {**task.about(setting, device_name(device)), "commit": commit()}
        if task.state == "trained":
            lines.append({**about, **trained(task, setting, data, device), "threads": threads})
        elif task.state == "start":
            scores = start(task, setting, data, device, known)
            lines.append({**about, "encoder": task.encoder, "scores": scores})
        else:
            lines.append({**about, "scores": baseline(task, setting, data, device)})
    return lines


def trained(task: Task, setting: Setting, data: str, device: str) -> dict[str, Any]:
    """Returns the cost of a training and the accuracies of its encoders."""
    with TemporaryDirectory() as folder:
        began = process_time()
        run = sanslabel.train(
            data,
            method=task.method,
            seed=task.seed,
            epochs=setting.epochs_of(task.method),
            encoder=setting.choices()[task.encoder],
            device=device,
            out=Path(folder) / "run",
        )
        core_seconds = process_time() - began
        lines = run.lines()
        scores: Scores = {}
        for network in run.exported():
            scores |= scores_of(run, network, device)
    pretext_accuracy = (
        fmean(line["accuracy"] for line in lines[-10:])
        if task.method != "supervised" and "accuracy" in lines[-1]
        else None
    )
    return {
        "encoder": task.encoder,
        "steps": lines[-1]["step"],
        "batch": run.known_plan.batch,
        "seconds": round(run.seconds),
        "core_seconds": round(core_seconds),
        "effective_rank": lines[-1].get("effective_rank"),
        "own_accuracy": None if pretext_accuracy is None else round(100 * pretext_accuracy, 2),
        "scores": scores,
    }


def start(task: Task, setting: Setting, data: str, device: str, known: dict[str, Scores]) -> Scores:
    """Returns the accuracies of the encoders that a training starts from.

    known: the accuracies of encoders so far, by a digest of configuration and weights, to which new ones are added.
    """
    scores: Scores = {}
    with TemporaryDirectory() as folder:
        run = start_run(Path(folder) / "run", task, setting, data, device)
        for network in run.exported():
            encoder = run.encoder(network)
            digest = json.dumps(encoder.config) + checkpoint.weights_sha256(encoder.state_dict())
            if digest not in known:
                measured = scores_of(run, network, device)
                known[digest] = {name.removeprefix(network): values for name, values in measured.items()}
            scores |= {network + reading: values for reading, values in known[digest].items()}
    return scores


def start_run(folder: Path, task: Task, setting: Setting, data: str, device: str) -> RunFolder:
    """Returns a run folder with the encoders that a training starts from, as if it had ended there.

    They are taken from the method's own networks, drawn by the seed of the run. BatchNorm has no statistics before the
    first step, so they are settled on the training images.
    """
    session, source = session_of(folder, task, setting, data, device), open_source(data, "train")
    dtype = getattr(torch, session.plan.precision)
    for encoder in session.method.encoders(session.net).values():
        reads: Any = encoder.reads
        settle_(encoder, source, reads=reads, device=torch.device(device), dtype=dtype)
    session.export()
    run = RunFolder(folder, session.plan, {}, None)
    run.write()
    return run


def session_of(folder: Path, task: Task, setting: Setting, data: str, device: str) -> Session:
    """Returns the session of a training before its first step."""
    source = open_source(data, "train")
    name, method, recipe = resolve_method(task.method, "small", None)
    chosen = Settings(seed=task.seed, epochs=setting.epochs_of(task.method), device=device)
    encoder = setting.choices()[task.encoder]
    plan, method = resolve_plan(
        data_of(data), source, torch.device(device), name, method, recipe, encoder, settings=chosen
    )
    return open_session(folder, plan, method, recipe, source)


def scores_of(run: RunFolder, network: str, device: str) -> Scores:
    """Returns the accuracies of each reading of a run's encoder."""
    options: dict[str, Any] = {"protocols": ONE_DRAW, "baselines": False, "cache": False, "device": device}
    return accuracies(sanslabel.evaluate(run.path, network=network, **options))


def baseline(task: Task, setting: Setting, data: str, device: str) -> Scores:
    """Returns the accuracies of raw pixels, or of as many of their principal components as each encoder has outputs."""
    train, test = open_source(data, "train"), open_source(data, "test")
    home = torch.device(device)
    on_train, index = represent({"pixels": pixels}, train, reads=train.image, device=home)
    on_test, _ = represent({"pixels": pixels}, test, reads=test.image, device=home)
    features = {"pixels": Features(on_train["pixels"], on_test["pixels"])}
    if task.method == "pca":
        features = principal_components(features["pixels"], widths(task.seed, setting, data, device))
    labels = train.labels[index].to(on_train["pixels"].device), test.labels.to(on_test["pixels"].device)
    division = Division(*labels, len(train.classes), "test split")
    return accuracies(scores_of_features(features, division, protocols=ONE_DRAW, seed=task.seed))


def principal_components(pixels: Features, counts: dict[str, int]) -> dict[str, Features]:
    """Returns the leading principal components of the training images, (N, count) and (M, count), by a name that states
    their number."""
    mean = pixels.train.double().mean(dim=0)
    _, axes = torch.linalg.eigh((pixels.train.double() - mean).T.cov())
    axes = axes.flip(1)  # the largest variance first

    def projected(images: Tensor, count: int) -> Tensor:
        return ((images.double() - mean) @ axes[:, :count]).float()

    return {
        f"{count} components, as {name}": Features(projected(pixels.train, count), projected(pixels.test, count))
        for name, count in counts.items()
        if count < len(axes)
    }


def widths(seed: int, setting: Setting, data: str, device: str) -> dict[str, int]:
    """Returns the outputs of the encoders, each width once, by the name of an encoder or of a method with a code."""
    found: dict[int, str] = {}
    for task in tasks([name for name in of_images() if name != "supervised"], [seed], setting, trains=False):
        session = session_of(Path(), task, setting, data, device)
        for name, encoder in session.method.encoders(session.net).items():
            width: Any = encoder.width
            of_code = encoder.config["name"] != task.encoder  # pyright: ignore[reportIndexIssue, reportArgumentType]
            found.setdefault(width, f"the {name} of {task.method}" if of_code else task.encoder)
    return {name: width for width, name in sorted(found.items(), reverse=True)}


def accuracies(measured: Iterable[Any]) -> Scores:
    """Returns accuracies with all labels: representation -> protocol -> accuracy."""
    by_representation: Scores = {}
    for score in measured:
        if score.labels_per_class is None:
            name = score.representation.removeprefix("trained encoder (").replace(")", "")
            by_representation.setdefault(name, {})[score.protocol] = round(score.value, 2)
    return by_representation


def device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device.startswith("cuda") else "cpu"


def subset(folder: Path, setting: Setting) -> str:
    """Returns a file with training images of Fashion-MNIST, the same for all seeds, and those that are measured: all
    test images, or held-out training images."""
    train, test = open_source("fashion-mnist", "train"), open_source("fashion-mnist", "test")
    index = permutation(0, len(train))
    splits = {"": train.subset(index[: setting.samples].sort().values), "test_": test}
    if setting.held_out:
        end = setting.samples * 5 // 4  # of the images that are trained on without --held-out
        splits["test_"] = train.subset(index[setting.samples : end].sort().values)
    arrays = {f"{prefix}{kind}": array for prefix, source in splits.items() for kind, array in _arrays(source).items()}
    np.savez(folder / "images.npz", **arrays)
    return str(folder / "images.npz")


def _arrays(source: Source) -> dict[str, np.ndarray]:
    pictures: Any = source.load(Request(torch.arange(len(source)))).signals["image"]
    return {"images": pictures.pixels.numpy()[:, 0], "labels": source.labels.numpy()}


def groups(todo: Iterable[Task]) -> list[list[Task]]:
    """Returns the tasks as jobs: each by itself, and all starts of a seed together, since many are the same."""
    jobs: dict[Any, list[Task]] = {}
    for task in todo:
        jobs.setdefault(task.seed if task.state == "start" else task, []).append(task)
    return list(jobs.values())


def file_name(setting: Setting) -> str:
    """Returns the name of the file of results."""
    return "held_out.jsonl" if setting.held_out else "longer.jsonl" if setting.times > 1 else "learning.jsonl"


def rendered() -> str:
    """Returns the text of docs/learning.md, made from the results."""
    names = ("learning.jsonl", "longer.jsonl", "tuning.jsonl")
    lines, longer, tuned = (read_lines(path.read_text()) if (path := RESULTS / name).exists() else [] for name in names)
    return page(lines, longer, tuned)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", default=[*BASELINES, *of_images()], metavar="METHOD")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, which share the cores")
    parser.add_argument("--threads", type=int, help="of a run; by default the cores, divided by the jobs")
    parser.add_argument("--results", type=Path, help="by default learning.jsonl or held_out.jsonl in bench/results")
    parser.add_argument("--times", type=int, default=1, help="train so many times as long; only with methods named")
    parser.add_argument("--no-training", action="store_true", help="only pixels, PCA and the starts of trainings")
    parser.add_argument("--held-out", action="store_true", help="measure on held-out training images, for tuning")
    unchanged = "count earlier lines of these methods under today's settings, which changed no number; trains nothing"
    parser.add_argument("--unchanged", nargs="+", default=[], metavar="METHOD", help=unchanged)
    parser.add_argument("--render", action="store_true", help="only write docs/learning.md")
    flags = parser.parse_args()
    for name in set(flags.methods) & set(methods.names()) - set(of_images()):
        needs = methods.method_class(name).needs
        parser.error(f"{name} learns from {needs}, and this bench has single images; see docs/pairs.md")
    setting = CUDA if flags.device.startswith("cuda") else CPU
    setting = replace(setting.without_test() if flags.held_out else setting, times=flags.times)
    path = flags.results or RESULTS / file_name(setting)
    done = read_lines(path.read_text()) if path.exists() else []
    if flags.unchanged:
        done = with_present_settings(done, flags.unchanged, setting, device_name(flags.device))
        path.write_text("".join(json.dumps(line) + "\n" for line in done))
    wanted = tasks(
        [] if flags.render or flags.unchanged else flags.methods, flags.seeds, setting, trains=not flags.no_training
    )
    if setting.times > 1:
        wanted = (task for task in wanted if task.state == "trained")  # the start is that of the shorter training
    todo = list(missing(wanted, setting, device_name(flags.device), done))
    threads = flags.threads or max(1, (os.cpu_count() or 1) // flags.jobs)
    with TemporaryDirectory() as folder, ProcessPoolExecutor(flags.jobs, mp_context=get_context("spawn")) as pool:
        one = partial(lines_of, setting=setting, device=flags.device, threads=threads)
        data = subset(Path(folder), setting) if todo else ""
        jobs = {pool.submit(one, group, data=data): group for group in groups(todo)}
        for finished in as_completed(jobs):
            if (error := finished.exception()) is not None:  # the other jobs go on
                print(*jobs[finished], repr(error), flush=True)
                continue
            done += finished.result()
            text = "".join(json.dumps(line) + "\n" for line in finished.result())
            with path.open("a") as file:
                file.write(text)
            print(text, end="", flush=True)
    if flags.held_out:
        print(tables(done, setting))
    else:
        (ROOT / "docs" / "learning.md").write_text(rendered())


if __name__ == "__main__":
    main()
