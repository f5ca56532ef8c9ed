"""A run folder and its files: the one way to read a run."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sanslabel import checkpoint, encoders, methods, run_config
from sanslabel.batch import Facts
from sanslabel.constraints import check_path
from sanslabel.distributed import rank
from sanslabel.encoders import Encoder
from sanslabel.errors import BadInput, UnfinishedWarning, bad_input_as
from sanslabel.given import Given, given_encoder, open_weights
from sanslabel.inputs import ImageSpec, InputSpec, TextSpec
from sanslabel.json_lines import read_figures, read_json_lines
from sanslabel.memory_limits import main_memory
from sanslabel.methods.method import Method, Networks
from sanslabel.notebook import html_table
from sanslabel.recipe import Recipe
from sanslabel.run_config import GivenNetwork, Plan, Spent
from sanslabel.scores import ScoreFile, merged_by_key, score_files
from sanslabel.serialization import from_plain, to_plain
from sanslabel.settings import Settings
from sanslabel.sources import AnyData, Data, Source, Split, TextChoices, data_of, locations, open_source, paired, splits
from sanslabel.sources.held_out import without_measured
from sanslabel.sources.pictures.images import with_decode_factor
from sanslabel.sources.pictures.levels import SIXTEEN_BITS
from sanslabel.sources.texts.tokenizer import FILE as VOCABULARY
from sanslabel.sources.texts.tokenizer import Tokenizer
from sanslabel.verdict import Verdict, verdict
from sanslabel.wording import worded


class TrainedEncoder(NamedTuple):
    """An encoder that a run has trained, in evaluation mode."""

    encoder: Encoder
    network: str
    """the name under which the method exports it: student, teacher, mean, critic, …"""
    sha256: str
    """the SHA-256 of the file with its weights, or of the file that the run would export now"""


@dataclass(frozen=True, repr=False)
class RunFolder:
    """A run folder whose run.json was read. Its other files are read when they are needed."""

    path: Path
    plan: Plan | None
    """the settings that decide the run; None for a folder with nothing but an exported encoder"""
    versions: Mapping[str, str]
    """the versions of all software that the run's bits depend on, by package"""
    spent: Spent | None
    """the time and memory of all starts so far; None before the first has ended"""

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """Returns the run folder at a path. Raises BadInput if there is none, or if its run.json is damaged, of a newer
        format, or incomplete."""
        path = Path(path)
        file = path / "run.json"
        if not file.is_file():
            if not (path / "config.json").is_file():
                raise BadInput(
                    f"{path}: no run here (no run.json), and no trained encoder here (no config.json); name the folder "
                    "of a run."
                )
            return cls(path, None, {}, None)
        content = run_config.upgraded(checkpoint.read_json(file, run_config.FORMAT))
        try:
            plan = run_config.read_plan(content)
            versions = from_plain(dict[str, str], content.get("versions", {}))
            spent = from_plain(Spent | None, content.get("spent"))
        except BadInput as error:
            raise BadInput(f"{file}: does not describe a run ({error})") from error
        return cls(path, plan, versions, spent)

    def __fspath__(self) -> str:
        """Returns the path, so that a run can be given wherever the path of one is asked for."""
        return str(self.path)

    def __repr__(self) -> str:
        facts = ", ".join(f"{value}" for name, value in self._facts().items() if name not in {"path", "verdict"})
        return f"<run {self.path}: {facts}>"

    def _repr_html_(self) -> str:
        """Returns the facts on the run as a table, for a notebook."""
        return html_table(f"Run {self.path}", (), list(self._facts().items()))

    @property
    def history(self) -> dict[str, list[float]]:
        """Returns the figures of metrics.jsonl as columns: figure -> its value in each line, nan where a line lacks it.

        `pandas.DataFrame(run.history)` has a row for each line.
        """
        lines = self.lines()
        names = dict.fromkeys(name for line in lines for name in line)
        return {name: [line.get(name, nan) for line in lines] for name in names}

    def _facts(self) -> dict[str, str]:
        """Returns what a person wants to know about a run at a glance."""
        if self.plan is None:
            return {"encoders": ", ".join(self.exported())}
        plan, memory = self.plan, 0 if self.spent is None else self.spent.peak_memory
        sizes = f" at {plan.image_size} x {plan.image_size} pixels" if plan.image_size else ""
        return {
            "method": plan.method,
            "data": f"{plan.samples:,} samples of {plan.data}{sizes}",
            "encoder": str(plan.encoder.get("name")),
            "training": f"{plan.epochs} x {plan.samples // plan.batch} steps (epochs x steps), batch {plan.batch}",
            "time": f"{self.seconds:.0f} s, {memory / 2**30:.1f} GiB",
            "verdict": self.verdict().sentence,
        }

    def write(self) -> None:
        """Writes run.json in one step. Raises DiskError."""
        content = {**to_plain(self.known_plan), "versions": dict(self.versions)}
        del content["kind"]
        if self.spent is not None:
            content["spent"] = to_plain(self.spent)
        checkpoint.write_json(self.path / "run.json", content, run_config.FORMAT)

    @property
    def known_plan(self) -> Plan:
        """Returns the plan. Raises BadInput for a folder with nothing but an exported encoder."""
        if self.plan is None:
            raise BadInput(f"{self.path}: no run here (no run.json); name the folder of a run.")
        return self.plan

    @property
    def steps(self) -> int:
        """Returns the optimizer steps of the run from its first to its last."""
        plan = self.known_plan
        return plan.samples // plan.batch * plan.epochs

    @property
    def done(self) -> int:
        """Returns the last step that is known: that of metrics.jsonl or of the newest checkpoint, or 0."""
        return self.done_by(self.lines())

    def done_by(self, lines: Sequence[Mapping[str, Any]]) -> int:
        """Returns the last step that is known, by these lines of metrics.jsonl and by the names of the checkpoints. A
        run that was stopped between two lines has a later checkpoint."""
        saved = checkpoint.newest_step(self.path / "checkpoints")
        return max(saved, lines[-1]["step"]) if lines else saved

    @property
    def resume_command(self) -> str:
        """Returns the command that continues the run."""
        return f"sanslabel train --resume {shlex.quote(str(self.path))}"

    @property
    def unfinished(self) -> bool:
        """Returns True until the run has done its last step and exported its encoders."""
        return not self.exported() or self.done < self.steps

    def lines(self) -> list[dict[str, Any]]:
        """Returns the undamaged lines of metrics.jsonl, figure -> number. Each has its step."""
        return read_figures(self.path / "metrics.jsonl")

    def verdict(self) -> Verdict:
        """Returns the verdict on the run's figures: the run is healthy, doubtful or failed, and why."""
        return verdict(self.lines(), not self.unfinished, self.known_plan.noun)

    @property
    def scores(self) -> list[ScoreFile]:
        """Returns the scores of the run's present encoders in RUN/evaluation, one file for each set of data and
        encoder. Raises BadInput if a file is damaged."""
        present = self._measured_encoders()
        return [file for file in self._score_files() if file.sha256 == present[file.network]]

    @property
    def earlier_scores(self) -> list[ScoreFile]:
        """Returns the scores of encoders that the run had before it was trained on."""
        present = self._measured_encoders()
        return [file for file in self._score_files() if file.sha256 != present[file.network]]

    def _score_files(self) -> list[ScoreFile]:
        return merged_by_key(score_files(self.path / "evaluation").values())

    def _measured_encoders(self) -> dict[str, str]:
        """Returns the SHA-256 of each present encoder that may have scores, by network. Without an exported encoder, it
        is the one whose scores were written last."""
        last = {file.network: file.sha256 for file in score_files(self.path / "evaluation").values()}
        return last | {name: checkpoint.sha256(self.encoder_file(name)) for name in self.exported()}

    def method(self) -> Method:
        """Returns the run's method with its hyper-parameters. Raises BadInput if its class is not installed."""
        plan = self.known_plan
        if plan.method not in methods.names():
            raise BadInput(
                f"{self.path}: was trained with {plan.method}, which is not found here; hand it over again in"
                " Python, or name the folder with its file in SANSLABEL_PATH."
            )
        with bad_input_as(self.path / "run.json", "start a new run"):
            return from_plain(methods.method_class(plan.method), plan.hyperparameters)

    def recipe(self) -> Recipe:
        """Returns the run's recipe. Raises BadInput if run.json describes no valid recipe."""
        with bad_input_as(self.path / "run.json", "start a new run"):
            return from_plain(Recipe, self.known_plan.recipe)

    def exported(self) -> list[str]:
        """Returns the names of the exported encoders, the default first; none before the run's end."""
        return checkpoint.exported(self.path) if (self.path / "config.json").exists() else []

    def trained_encoder(self, network: str | None = None) -> TrainedEncoder:
        """Returns an encoder of the run: the exported one, or that of the newest checkpoint if the run has not ended.

        network: its name, by default the first. Warns if the run has not ended. Raises BadInput if there is no such
        encoder and no checkpoint, or if the weights do not fit.
        """
        if names := self.exported():
            encoder = checkpoint.load_encoder(self.path, network)
            return TrainedEncoder(encoder, network or names[0], checkpoint.sha256(self.encoder_file(network)))
        if not checkpoint.checkpoints(self.path / "checkpoints"):
            raise BadInput(
                f"{self.path}: no trained encoder here, since the run has no checkpoint yet; finish it with: "
                f"{self.resume_command}"
            )
        method, net = self.networks(torch.device("cpu"))
        trained: Mapping[str, Any] = method.encoders(net)
        name = checkpoint.chosen_network(self.path, trained, network)
        weights = trained[name].state_dict()
        encoder = checkpoint.encoder_of(trained[name].config, weights, self.path / "run.json")
        return TrainedEncoder(encoder, name, checkpoint.weights_sha256(weights))

    def encoder(self, network: str | None = None) -> Encoder:
        """Returns an encoder of the run in evaluation mode: images (N, C, H, W) in [0, 1] -> (N, D).

        network: its name, by default the first. Warns and raises as `trained_encoder` does.
        """
        return self.trained_encoder(network).encoder

    def encoder_file(self, network: str | None = None) -> Path:
        """Returns the file with the weights of an exported encoder."""
        return checkpoint.encoder_file(self.path, network)

    def networks(self, device: torch.device) -> tuple[Method, Networks]:
        """Returns the method and its networks with the weights of the newest checkpoint, in evaluation mode.

        Their size is checked before memory is taken. Warns if the run has not ended. Raises BadInput if there is no
        checkpoint, if it does not fit, or if the networks are larger than the machine's memory.
        """
        file, plan, method = self.path / "run.json", self.known_plan, self.method()
        with bad_input_as(file, "name the folder of a run"):
            facts = self.facts()
            check_network_size(method, plan, facts, file)
            with torch.random.fork_rng(devices=()):  # the weights drawn here are overwritten
                net = method.networks(build_encoders(plan), facts, **given_networks(plan))
        newest = checkpoint.newest(self.path / "checkpoints")
        if newest is None:
            raise BadInput(f"{self.path}: has no checkpoint yet; continue it with: {self.resume_command}")
        checkpoint.load_networks_(net, newest)
        if not self.exported() and rank() == 0:
            step = f"step {checkpoint.read_state(newest)['step']:,} of {self.steps:,}"
            warnings.warn(
                worded(
                    f"{self.path}: has not ended, so this is its state after {step}; {self.resume_command} finishes it"
                ),
                UnfinishedWarning,
                stacklevel=2,
            )
        return method, net.to(device).eval()

    def source(self, split: Split | None = None, data: AnyData | None = None, channels: int | None = None) -> Source:
        """Returns images of the size and the levels that the run was trained at. The training split of the run's own
        data has the samples that the run was trained on.

        split: by default the test split if there is one. data: by default those of the run. channels: by default those
        that the encoder reads. Raises BadInput if the data are missing or do not fit.
        """
        plan = self.known_plan
        chosen = data_of_run(plan, data)
        if split is None:
            split = "test" if "test" in splits(chosen) else "train"
        channels = plan.encoder.get("channels") if channels is None else channels
        return self._open_source(chosen, split, channels, of_run=data is None)

    def training_source(self, data: Data) -> Source:
        """Returns the samples that the run is trained on, with pictures as large as in training. `data` states where
        they are now."""
        source = self._open_source(data, "train", self.known_plan.encoder.get("channels"), of_run=True)
        return paired(with_decode_factor(source, self.recipe().decode_factor), self.known_plan.near)

    def _open_source(self, data: Data, split: Split, channels: int | None, of_run: bool) -> Source:
        """Returns samples of any data, or of the run's own data, which are opened as when the run began."""
        plan = self.known_plan
        data = replace(data, copies=plan.copies and of_run)
        data = with_vocabulary(data, self.path, plan.inputs.values())
        image = plan.inputs.get("image")
        levels = image.levels if isinstance(image, ImageSpec) and image.channels == channels else None
        options: dict[str, Any] = {"image_size": plan.image_size or None, "channels": channels}
        source = open_source(data, split, **options, levels=levels)
        measured = source.inputs.get("image")
        if of_run and levels is None and isinstance(measured, ImageSpec) and measured.levels is not None:
            # An earlier version trained this run: it divided 16 bits by 257, whatever their levels.
            source = open_source(data, split, **options, levels=(SIXTEEN_BITS,) * measured.channels)
        return without_measured(source, data) if split == "train" and of_run and plan.held_out else source

    def facts(self) -> Facts:
        """Returns the facts of the data that the run was trained on.

        Runs of earlier versions did not record the number of classes. For these runs, the data are opened to count
        them. If the data are missing, the number is 0.
        """
        plan = self.known_plan
        classes = plan.classes
        if classes is None:
            try:
                classes = len(self.source("train").classes)
            except BadInput:
                classes = 0
        if plan.inputs:
            return Facts(plan.samples, plan.inputs, classes)
        size = plan.image_size
        return Facts.of_images(plan.samples, plan.encoder["channels"], size, size, classes)

    def bad_samples(self) -> dict[str, str]:
        """Returns the samples that could not be read and were replaced: name -> reason."""
        lines = read_json_lines(self.path / "bad_samples.jsonl", dict[str, str], {"sample": str, "reason": str})
        return {line["sample"]: line["reason"] for line in lines}

    @property
    def seconds(self) -> float:
        """Returns the seconds of training, over all starts that have ended."""
        return 0.0 if self.spent is None else self.spent.seconds


def load_encoder(run: str | Path, network: str | None = None) -> Encoder:
    """Returns the trained encoder of a run folder, in evaluation mode: images (N, C, H, W) in [0, 1] -> (N, D).

    network: the name of the encoder ("student", "teacher", …), by default the first. If the run has not ended, the
    encoder is that of its newest checkpoint, and a warning names the step. Raises BadInput if the folder has no encoder
    and no checkpoint, or weights that do not match the configuration key by key.
    """
    check_path("--run", run)
    path = Path(run)
    if (path / "config.json").exists() or not (path / "run.json").is_file():
        return checkpoint.load_encoder(path, network)
    return RunFolder.open(path).encoder(network)


def data_of_run(plan: Plan, data: AnyData | None = None) -> Data:
    """Returns the data of a run with its choices, or other data if they are given.

    The choices are its label file, whether it goes on without unreadable pictures, and how frames are read. They apply
    to `data` at the same places, too, unless these have choices of their own.
    """
    choices = {
        "labels": plan.labels and plan.labels.path,
        "skip_unreadable": plan.skip_unreadable,
        "clips": clips(plan),
        "fps": plan.fps,
        "frame_side": plan.frame_side,
        "text": TextChoices(languages=plan.languages),
    }
    given = data_of(plan.places if data is None else data)
    plain = given == data_of(given.places)
    given = data_of(given, **choices) if plain and locations(given) == plan.places else given
    texts = tuple(signal for signal, spec in plan.inputs.items() if isinstance(spec, TextSpec))
    return replace(given, signals=tuple(plan.encoders) or texts or given.signals)


def with_vocabulary(data: Data, folder: Path, inputs: Iterable[InputSpec]) -> Data:
    """Returns data whose texts are read with the vocabulary in a run folder, and cut at its longest length, if the
    inputs of its encoders are texts. Raises BadInput if the vocabulary is missing or has changed."""
    spec = next((spec for spec in inputs if isinstance(spec, TextSpec)), None)
    if spec is None:
        return data
    signals = data.signals if set(data.signals) & {"source", "target"} else ("source", "target")
    return replace(
        data, signals=signals, text=replace(data.text, tokenizer=vocabulary(folder, spec), longest=spec.length)
    )


def vocabulary(folder: Path, spec: TextSpec) -> Tokenizer:
    """Returns the vocabulary in a run folder. Raises BadInput if it is missing or has changed."""
    return Tokenizer.open(folder / VOCABULARY, spec.tokenizer)


def clips(chosen: Plan | Settings) -> bool:
    """Returns True if pictures of folders are frames of clips: a rate of theirs is chosen, or a time between pairs."""
    return bool(chosen.near) or chosen.fps is not None


def build_encoders(plan: Plan) -> Any:
    """Returns the encoder of a plan with fresh weights, or signal -> encoder if the method reads several signals."""
    if plan.encoders:
        return {signal: encoders.build(**config) for signal, config in plan.encoders.items()}
    return encoders.build(**plan.encoder)


def open_given(network: GivenNetwork) -> Given:
    """Returns the weights that a run was given. Raises BadInput if they are missing, or changed since it began."""
    given = open_weights(network.path)
    if given.sha256 != network.sha256:
        raise BadInput(
            f"{network.path}: has changed since the run began (its SHA-256 was {network.sha256[:12]}…); put the same "
            "weights there, or start a new run."
        )
    return given


def given_networks(plan: Plan) -> dict[str, Any]:
    """Returns the frozen networks that a method is given, as arguments of `Method.networks`. Raises BadInput if they
    are missing, or changed since the run began."""
    if plan.teacher is None:
        return {}
    return {"teacher": given_encoder(open_given(plan.teacher)).requires_grad_(False)}


def check_network_size(method: Method, plan: Plan, facts: Facts, path: Path) -> None:
    """Raises BadInput if a run.json describes no networks, or networks that are larger than the machine's memory. To
    check this, they are built on the device "meta", with names and shapes alone."""
    signals, given = plan.encoders or {"": plan.encoder}, given_networks(plan)
    outlines = {signal: encoders.outline(config, path) for signal, config in signals.items()}
    with (
        bad_input_as(f"{path}: the networks", "start a new run"),
        torch.random.fork_rng(devices=()),
        torch.device("meta"),
    ):
        outline: Any = outlines if plan.encoders else outlines[""]
        state = method.networks(outline, facts, **given).state_dict()
    if (needed := sum(tensor.nbytes for tensor in state.values())) > main_memory():
        raise BadInput(f"{path}: its networks take {needed:,} bytes, more than this machine's memory.")
