"""Measures frames with controls that must fail: python -m bench.frame_controls

Measures near_far, shots and order on 40 clips of moving things (bench/moving_clips.py). Probes are fitted on 40
others. Besides pixels and a random encoder, it measures pixels of other frames of the same clip, pixels of any other
frame, and a constant. Prints a table. It takes half a minute of one core.
"""

from __future__ import annotations

import torch

from bench.markdown import table
from bench.moving_clips import moving_clips
from sanslabel import encoders
from sanslabel.evaluation import pixels, represent, scores_of_features, settle_
from sanslabel.evaluation.features import Division, Features, Frames
from sanslabel.evaluation.protocols.near_far import NearFar
from sanslabel.evaluation.protocols.order import Order
from sanslabel.evaluation.protocols.shots import Shots
from sanslabel.randomness import permutation
from sanslabel.sources.arrays import Arrays

CLIPS, FRAMES = 40, 64
PROTOCOLS = (NearFar(near=2.0, far=16.0), Shots(away=16.0), Order(gap=4.0))
"""times in frames, of which the clips have one a second"""
CPU = torch.device("cpu")


def representations(source: Arrays) -> dict[str, torch.Tensor]:
    """Returns the features of all frames, (N, D), by name."""
    torch.manual_seed(0)
    encoder = encoders.build("conv", channels=1, image_size=32, scaling=source.standardization())
    settle_(encoder, source, reads=source.image, device=CPU)
    features, _ = represent(
        {"pixels": pixels, "random encoder": encoder.eval()}, source, reads=source.image, device=CPU
    )
    within = torch.cat([clip * FRAMES + permutation(clip, FRAMES) for clip in range(CLIPS)])
    return {
        "constant": torch.ones(len(source), 8),
        "pixels of any frame": features["pixels"][permutation(0, len(source))],
        "pixels of a frame of the clip": features["pixels"][within],
        **features,
    }


def main() -> None:
    train, test = moving_clips(CLIPS, "train", 0), moving_clips(CLIPS, "test", 1)
    on_train, on_test = representations(train), representations(test)
    frames = [Frames(source.group, source.time) for source in (train, test) if source.group is not None]  # type: ignore
    division = Division(train.labels, test.labels, 10, "held-out clips", "", *frames)
    features = {name: Features(on_train[name], on_test[name]) for name in on_train}
    scores = scores_of_features(features, division, protocols=PROTOCOLS)
    columns = list(dict.fromkeys(score.metric for score in scores))
    values = {(score.representation, score.metric): f"{score.value:.1f}" for score in scores}
    names = dict.fromkeys(score.representation for score in scores)
    cells = [[name, *(values[name, column] for column in columns)] for name in names]
    print(table(["features", *columns], cells, right=range(1, len(columns) + 1)))


if __name__ == "__main__":
    main()
