"""`evaluate`: the scores of a run's encoder, beside raw pixels and the encoder's start."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from sanslabel.constraints import check_path, check_value
from sanslabel.device import chosen_device
from sanslabel.distributed import on_first_process, rank
from sanslabel.errors import BadInput
from sanslabel.evaluation.comparison import Comparison, silent
from sanslabel.evaluation.feature_cache import FeatureCache
from sanslabel.evaluation.features import Division, Features
from sanslabel.evaluation.labeled_split import EvaluationSplit, Unlabeled, labeled_split, unlabeled_split
from sanslabel.evaluation.protocol import NotMeasurable, Protocol
from sanslabel.evaluation.protocols import names, protocol_class
from sanslabel.evaluation.representation import RepresentOptions
from sanslabel.evaluation.score_file import write_merged
from sanslabel.evaluation.score_list import ScoreList
from sanslabel.evaluation.stages import Tokens
from sanslabel.evaluation.subjects import baselines_of, input_baseline, open_subject, readouts, start_of
from sanslabel.memory_limits import advise_when_out_of_memory
from sanslabel.run_config import Plan
from sanslabel.run_folder import data_of_run, with_vocabulary
from sanslabel.scores import Score, score_files
from sanslabel.settings import FrameRate
from sanslabel.sources import AnyData, data_of


def evaluate(
    run: str | Path,
    *,
    data: AnyData | None = None,
    labels: str | Path | None = None,
    fps: float | None = None,
    protocols: str | Protocol | Sequence[str | Protocol] = ("knn", "linear"),
    network: str | None = None,
    stage: int | None = None,
    tokens: Tokens | None = None,
    baselines: bool = True,
    cache: bool = True,
    seed: int = 0,
    device: str | None = None,
    report: Callable[[str], None] | None = None,
) -> ScoreList:
    """Returns the scores of a run's encoder, of raw pixels or mel statistics, and of the encoder's start: the weights
    that the run was given, or random ones.

    run: a run folder, a folder with nothing but an exported encoder, or the name of a pretrained encoder of timm,
        "timm/…". The last two need `data`.
    data: labeled data, by default those that the run was trained on. Probes are fitted on the training split and
        measured on the test split. Without a test split, a fifth of the labeled images, fixed by the seed, is measured.
        For a run that learned from labels, it is the fifth that the run left out, whatever the seed.
    labels: a CSV or Parquet file with the columns path and label, in place of the labels that folders state; by default
        that of the run, for its own data.
    fps: frames a second of folders of frames, each of which is then a clip, or the most that are kept of a video. By
        default the data of the run are read as in training, and other folders are classes.
    protocols: names, or protocols with settings of their own: `evaluate(run, protocols=("linear", KNN(k=10)))`.
    network: the exported encoder ("student", "teacher", "mean", "critic"), by default the first.
    stage, tokens: the stage and tokens to read from the encoder, see `Readout`; by default its representation.
    baselines: whether pixels, the encoder's start and the largest class are measured, too. Scores of the trained
        encoder by kNN and linear probes then have their gains, with intervals.
    cache: whether features are saved in RUN/features, and loaded from there.
    report: a function that is called with a sentence on the next step of the work.

    An encoder that was trained on patches is measured twice: as the mean over patches, and on full images. Writes
    RUN/evaluation/DATA.json after each protocol. A protocol that cannot measure these data is skipped, and a warning
    gives the reason; if none can, its reason is raised. Raises Unlabeled if all protocols read labels and there are
    none, BadInput for a folder without an encoder and for values that cannot be used, and DiskError.
    """
    check_path("--run", run)
    given = None if data is None else data_of(data)
    check_value("--fps", fps, FrameRate | None)
    check_value("--stage", stage, int | None)
    check_value("--seed", seed, int)
    chosen = _protocols(protocols)
    subject = open_subject(run, network, given)
    if subject.plan is not None:
        labeled = data_of_run(subject.plan, given)
    elif given is not None:
        labeled = given
    else:
        raise BadInput(f"{run}: does not say what it was trained on (no run.json); name labeled data with --data.")
    if labels is not None:
        labeled = data_of(labeled, labels=labels)
    labeled = with_vocabulary(data_of(labeled), subject.folder, [subject.encoder.reads])
    if fps is not None:
        labeled = data_of(labeled, clips=True, fps=fps)
    on_first_process(score_files, subject.folder / "evaluation")  # a damaged file is reported before the work begins
    options = subject.options(chosen_device(device))
    features = FeatureCache(subject.folder / "features" if cache else None)
    skipped: list[NotMeasurable] = []
    split = _split(labeled, seed, options, features, subject.plan, chosen, skipped)
    trained = f"trained encoder ({subject.network})"
    start = start_of(subject, split.train, seed, split.options) if baselines else {}
    encoders = {**start, trained: subject.encoder.to(options["device"])}
    representations = readouts(encoders, split.train, split.options, stage, tokens)
    pixels = input_baseline(options["reads"]) if baselines and stage is None and tokens is None else {}
    comparison = Comparison(
        representations={**pixels, **representations},
        baselines=baselines_of(representations, trained, start, pixels) if baselines else {},
        encoders=encoders,
        split=split,
        folder=None if subject.plan is None else subject.folder,
        stage=stage,
        tokens=tokens,
        seed=seed,
        report=report or silent,
    )
    for protocol in list(chosen):  # all are checked before the work begins
        with _skipping(protocol, chosen, skipped):
            protocol.check_comparison(comparison)
    scores = ScoreList()
    printed = subject.plan.remarks if subject.plan is not None else ()  # at the start of training
    scores.remarks = tuple(remark for remark in split.train.remarks if remark not in printed)
    for protocol in list(chosen):
        with (
            _skipping(protocol, chosen, skipped),
            advise_when_out_of_memory(options["device"], "evaluate with --device cpu"),
        ):
            scores += (measured := protocol.measure(comparison))
            on_first_process(write_merged, subject, split, measured, network)  # at once: the next protocol may fail
    if not chosen:
        raise skipped[0]
    for reason in skipped if rank() == 0 else ():
        warnings.warn(f"{reason} The other protocols were measured.", stacklevel=2)
    return scores


def _split(
    data: AnyData,
    seed: int,
    options: RepresentOptions,
    cache: FeatureCache,
    plan: Plan | None,
    chosen: list[Protocol],
    skipped: list[NotMeasurable],
) -> EvaluationSplit:
    """Returns the images to fit on and to measure on. If they have no labels, it takes the protocols that read labels
    out of the chosen ones, and keeps the reason. Raises Unlabeled if no protocol is left."""
    try:
        return labeled_split(data, seed, options, cache, plan)
    except Unlabeled as reason:
        unmeasurable = [protocol for protocol in chosen if protocol.reads_labels]
        if len(unmeasurable) == len(chosen):
            raise
        for protocol in unmeasurable:
            chosen.remove(protocol)
            skipped.append(NotMeasurable(f"--protocols {protocol.name}: {reason}"))
    return unlabeled_split(data, seed, options, cache, plan)


@contextmanager
def _skipping(protocol: Protocol, chosen: list[Protocol], skipped: list[NotMeasurable]) -> Iterator[None]:
    """Context manager that takes a protocol which cannot be measured out of the chosen ones, and keeps the reason."""
    try:
        yield
    except NotMeasurable as reason:
        chosen.remove(protocol)
        skipped.append(reason)


def scores_of_features(
    representations: Mapping[str, Features],
    division: Division,
    *,
    protocols: str | Protocol | Sequence[str | Protocol] = ("knn", "linear"),
    seed: int = 0,
    report: Callable[[str], None] | None = None,
) -> list[Score]:
    """Returns the scores of features that were computed before. Raises BadInput for protocols that need images, and for
    too few labels."""
    comparison = Comparison(given=(representations, division), seed=seed, report=report or silent)
    return [score for protocol in _protocols(protocols) for score in protocol.measure(comparison)]


def _protocols(protocols: str | Protocol | Sequence[str | Protocol]) -> list[Protocol]:
    """Returns the protocols. A name stands for the protocol with its default settings. Raises BadInput for unknown
    names."""
    if not protocols:
        raise BadInput(f"--protocols: name at least one of {', '.join(names())}.")
    protocols = [protocols] if isinstance(protocols, str | Protocol) else protocols
    return [protocol_class(p)() if isinstance(p, str) else p for p in protocols]
