"""Protocols of frames: near_far, shots and order, against loops, known answers and controls that fail."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cosine_similarity

import sanslabel
from sanslabel.cli.main import main
from sanslabel.errors import BadInput
from sanslabel.evaluation import Unlabeled
from sanslabel.evaluation.clip_scores import clip_means
from sanslabel.evaluation.comparison import Comparison
from sanslabel.evaluation.features import Division, Features, Frames
from sanslabel.evaluation.gains import mean_gain
from sanslabel.evaluation.protocol import NotMeasurable
from sanslabel.evaluation.protocols.near_far import NearFar, near_far_aurocs
from sanslabel.evaluation.protocols.order import ORDERS, Order, arrow_accuracy, frames_in_a_row, order_accuracy
from sanslabel.evaluation.protocols.shots import Shots, retrieved
from sanslabel.sources import open_source
from sanslabel.sources.held_out import fifth_of_clips, measured_fifth

CLIPS, LENGTH = 12, 30
TRAINED = "trained encoder (student)"


def frames(clips=CLIPS, length=LENGTH) -> Frames:
    """Clips of frames, ten a second."""
    return Frames(torch.arange(clips).repeat_interleave(length), (torch.arange(length).double() / 10).repeat(clips))


def moving(seed=0, clips=CLIPS, length=LENGTH, width=16) -> torch.Tensor:
    """Features of clips, each of which begins somewhere and moves in a direction of its own."""
    generator = torch.Generator().manual_seed(seed)
    start, way = torch.randn(2, clips, 1, width, generator=generator)
    along = torch.linspace(0, 1, length)[None, :, None]
    return (3 * start + 2 * along * way + 0.02 * torch.randn(clips, length, width, generator=generator)).flatten(0, 1)


def shuffled(features: torch.Tensor, within: bool) -> torch.Tensor:
    """The features of other frames: of the same clip, or of any."""
    generator = torch.Generator().manual_seed(1)
    if not within:
        return features[torch.randperm(len(features), generator=generator)]
    order = torch.cat([i + torch.randperm(LENGTH, generator=generator) for i in range(0, len(features), LENGTH)])
    return features[order]


REPRESENTATIONS = {
    "still": torch.ones(CLIPS * LENGTH, 16),
    "shuffled in clips": shuffled(moving(), True),
    "shuffled": shuffled(moving(), False),
    TRAINED: moving(),
}


@pytest.fixture
def comparison() -> Comparison:
    labels, place = torch.full((CLIPS * LENGTH,), -1), frames()
    features = {name: Features(x, x) for name, x in REPRESENTATIONS.items()}
    features[TRAINED] = Features(moving(1), moving())
    division = Division(labels, labels, 0, "test split", "", place, place)
    return Comparison(given=(features, division), baselines={TRAINED: ("still",)})


def values(scores, metric) -> dict[str, float]:
    return {score.representation: score.value for score in scores if score.metric == metric}


def auroc_loop(features, place, clip, near, far) -> tuple[list[float], list[float]]:
    """The shares of far frames of the clip, and of frames of other clips, that a near frame is closer than."""
    same, other = [], []
    members = (place.group == clip).nonzero()[:, 0].tolist()
    strangers = (place.group != clip).nonzero()[:, 0].tolist()

    def cosine(i, j):
        return round(float(cosine_similarity(features[i], features[j], dim=0)), 6)

    def wins(anchor, near_ones, others):
        pairs = [(cosine(anchor, p), cosine(anchor, n)) for p in near_ones for n in others]
        return sum((p > n) + 0.5 * (p == n) for p, n in pairs) / len(pairs)

    for anchor in members:
        gap = {j: abs(float(place.time[anchor] - place.time[j])) for j in members if j != anchor}
        near_ones = [j for j, seconds in gap.items() if seconds <= near + 1e-6]
        far_ones = [j for j, seconds in gap.items() if seconds > far + 1e-6]
        if near_ones and far_ones:
            same.append(wins(anchor, near_ones, far_ones))
        if near_ones and strangers:
            other.append(wins(anchor, near_ones, strangers))
    return same, other


def test_near_and_far_by_loops():
    place, features = frames(3, 12), moving(clips=3, length=12)
    same, other = near_far_aurocs(features, place, 0.2, 0.7, seed=0)
    for clip in range(3):
        of_clip, of_others = auroc_loop(features, place, clip, 0.2, 0.7)
        assert same[clip].item() == pytest.approx(sum(of_clip) / len(of_clip), abs=1e-3)
        assert other[clip].item() == pytest.approx(sum(of_others) / len(of_others), abs=1e-3)


def test_near_frames_are_closer_where_features_move_with_time(comparison):
    scores = NearFar(near=0.3, far=1.0).measure(comparison)
    same, other = values(scores, "same clip"), values(scores, "other clips")
    assert same[TRAINED] > 95
    assert other[TRAINED] > 99
    assert same["shuffled in clips"] == pytest.approx(50, abs=4)
    assert other["shuffled in clips"] > 90, "the clip is still known"
    assert same["shuffled"] == pytest.approx(50, abs=4)
    assert other["shuffled"] == pytest.approx(50, abs=4)
    assert same["still"] == other["still"] == same["chance"] == other["chance"] == 50
    (gain,) = next(score.gains for score in scores if score.representation == TRAINED)
    assert (gain.over, gain.sign) == ("still", 1)
    assert scores[0].settings == {"near": 0.3, "far": 1.0, "clips": CLIPS}


def test_clips_too_short_for_far_frames_are_compared_with_others_alone(comparison):
    assert {score.metric for score in NearFar(near=0.3, far=10).measure(comparison)} == {"other clips"}
    with pytest.raises(NotMeasurable, match=r"no clip has a frame within 0\.01 s"):
        NearFar(near=0.01, far=10).measure(comparison)
    with pytest.raises(BadInput, match=r"near_far\.far=0\.1: must be at least"):
        NearFar(near=0.3, far=0.1).check_comparison(comparison)


@pytest.mark.parametrize("away", [0.0, 1.0, 2.0])
def test_shots_by_loops(away):
    place, features = frames(4, 25), moving(clips=4, length=25)
    found = retrieved(features, place, away, seed=0)
    correct, chance = [], []
    for query in range(100):
        gaps = (place.time[query] - place.time).abs()
        candidates = [
            j for j in range(100) if j != query and (place.group[j] != place.group[query] or gaps[j] >= away - 1e-6)
        ]
        same = [j for j in candidates if place.group[j] == place.group[query]]
        if same:
            nearest = max(candidates, key=lambda j: float(cosine_similarity(features[query], features[j], dim=0)))
            correct.append(float(nearest in same))
            chance.append(len(same) / len(candidates))
    assert len(found.correct) == len(correct)
    assert found.correct.mean().item() == pytest.approx(sum(correct) / len(correct), abs=1e-6)
    assert found.chance.mean().item() == pytest.approx(sum(chance) / len(chance), abs=1e-6)


def test_shots_are_found_where_features_know_them(comparison):
    found = values(Shots(away=1.0).measure(comparison), "recall at 1")
    assert found[TRAINED] > 95
    assert found["shuffled in clips"] > 95, "a shot is no order"
    assert found["chance"] == pytest.approx(100 * 13 / (360 - 17), abs=2)
    assert found["shuffled"] == pytest.approx(found["chance"], abs=4)
    assert found["still"] == pytest.approx(found["chance"], abs=0.1), "all are equally near"
    with pytest.raises(NotMeasurable, match="no shot has two frames at least 9 s apart"):
        Shots(away=9).measure(comparison)


def test_frames_in_a_row_by_loops():
    generator = torch.Generator().manual_seed(0)
    time = torch.rand(60, generator=generator, dtype=torch.float64) * 6
    place = Frames(torch.arange(60) % 3, time)
    expected = set()
    for first in range(60):
        row = [first]
        while len(row) < 3:
            later = [j for j in range(60) if j % 3 == row[-1] % 3 and time[j] >= time[row[-1]] + 0.4 - 1e-6]
            following = min(later, key=lambda j: float(time[j]), default=None)
            if following is None or time[following] - time[row[-1]] > 0.6:
                break
            row.append(following)
        if len(row) == 3:
            expected.add(tuple(row))
    assert expected
    assert set(map(tuple, frames_in_a_row(place, 3, 0.4, seed=0).tolist())) == expected
    assert len(frames_in_a_row(place, 4, 3.0, seed=0)) == 0


def test_there_are_12_orders_of_four_up_to_their_direction():
    assert ORDERS[0] == (0, 1, 2, 3)
    assert len({min(order, order[::-1]) for order in ORDERS}) == len(ORDERS) == 12


def test_the_order_of_four_on_a_line():
    angle = torch.tensor([0.0, 0.3, 0.6, 0.9, 0.5])
    features = torch.stack([angle.cos(), angle.sin()], dim=1)
    fours = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 2, 3], [0, 4, 2, 3], [0, 2, 4, 3], [0, 0, 0, 0]])
    assert order_accuracy(features, fours).tolist() == pytest.approx([1, 1, 0, 1, 0, 1 / 12])


def test_order_is_read_where_features_have_it():
    """The direction of time is one direction of the features in every clip, and then it is of none."""
    place, width = frames(), 16
    along = torch.linspace(0, 1, LENGTH).repeat(CLIPS)[:, None]
    clock = torch.zeros(width)
    clock[0] = 4.0
    for push, lowest, highest in ((clock, 95, 100), (0 * clock, 0, 80)):
        train, test = (moving(seed) + along * push for seed in (1, 0))
        rows = frames_in_a_row(place, 2, 0.5, seed=0)
        accuracy = 100 * arrow_accuracy(Features(train, test), rows, rows, seed=0).mean().item()
        assert lowest <= accuracy <= highest


def test_controls_have_no_order(comparison):
    scores = Order(gap=0.5).measure(comparison)
    arrow, four = values(scores, "arrow of time"), values(scores, "order of four")
    assert (arrow["still"], arrow["chance"]) == (50, 50)
    assert four["still"] == four["chance"] == pytest.approx(100 / 12)
    assert four[TRAINED] > 60
    for name in ("shuffled", "shuffled in clips"):
        assert four[name] == pytest.approx(100 / 12, abs=5)
    features = {name: Features(moving(1), x) for name, x in REPRESENTATIONS.items()}  # fitted on other clips
    strangers = replace(comparison, given=(features, comparison.division), baselines={})
    arrow = values(Order(gap=0.5).measure(strangers), "arrow of time")
    for name in ("shuffled", "shuffled in clips"):
        assert arrow[name] == pytest.approx(50, abs=8)
    with pytest.raises(NotMeasurable, match=r"no clip has two frames 50\.0 s apart"):
        Order(gap=50.0).measure(comparison)


@pytest.mark.parametrize("protocol", [NearFar(), Shots(), Order()])
def test_samples_without_time_are_not_measured(protocol, digits):
    division = Division(digits[1], digits[3], 10, "test split")
    comparison = Comparison(given=({"pixels": Features(digits[0], digits[2])}, division))
    with pytest.raises(NotMeasurable, match="no time"):
        protocol.measure(comparison)


def test_clips_are_held_out_as_one():
    digits = open_source("digits").subset(torch.arange(300))
    clip = torch.arange(300) // 10
    for source in (replace(digits, group=clip), replace(digits, group=clip, labels=torch.full((300,), -1))):
        measured = fifth_of_clips(source, 3)
        assert measured.view(30, 10).sum(dim=1).unique().tolist() == [0, 10]
        assert measured.sum() == 60
        assert not torch.equal(measured, fifth_of_clips(source, 4))
    assert torch.equal(measured_fifth(replace(digits, group=clip), 3), fifth_of_clips(replace(digits, group=clip), 3))
    assert fifth_of_clips(digits, 3).sum() == 60
    assert fifth_of_clips(replace(digits, group=torch.zeros(300).long()), 3).all()


def test_shots_of_a_video_are_held_out_together():
    digits = open_source("digits").subset(torch.arange(300))
    shots = replace(digits, group=torch.arange(300) // 10, recording=torch.arange(300) // 50)  # 6 videos of 5 shots
    measured = fifth_of_clips(shots, 3)
    assert measured.view(6, 50).sum(dim=1).unique().tolist() == [0, 50]
    few = shots.subset(torch.arange(200))  # 4 videos: too few to hold one out
    assert torch.equal(fifth_of_clips(few, 3), fifth_of_clips(replace(few, recording=None), 3))


def test_means_and_gains_are_those_of_clips():
    group = torch.tensor([4, 1, 4, 1, 9])
    assert clip_means(torch.tensor([1.0, 0.0, 0.0, 0.5, 1.0]), group).tolist() == [0.25, 0.5, 1.0]
    gain = mean_gain("pixels", torch.tensor([0.5, 0.7, 0.9]), torch.tensor([0.4, 0.5, 0.6]))
    assert (gain.over, gain.value) == ("pixels", pytest.approx(20))
    assert (gain.low, gain.high) == (pytest.approx(20 - 4.303 * 10 / 3**0.5, abs=0.01), pytest.approx(44.84, abs=0.01))


@pytest.fixture(scope="module")
def clips_run(tmp_path_factory):
    """A run on ten clips without labels, in which a bright column moves to the right, and each clip has its own row."""
    root = tmp_path_factory.mktemp("clips")
    for clip in range(10):
        (root / "data" / f"clip{clip}").mkdir(parents=True)
        for frame in range(8):
            pixels = np.zeros((8, 8), np.uint8)
            pixels[:, frame] = 255
            pixels[clip % 8] = 100 + 10 * clip
            Image.fromarray(pixels).save(root / "data" / f"clip{clip}" / f"{frame}.png")
    options = {"image_size": 8, "encoder": {"name": "mlp", "hidden": [16]}, "batch": 16, "epochs": 1, "workers": 0}
    return sanslabel.train(root / "data", fps=4.0, out=root / "run", precision="float32", **options)


def test_clips_without_labels_are_measured_and_other_protocols_skipped(clips_run):
    protocols = ("knn", NearFar(near=0.3, far=1.0), Shots(away=0.5))
    with pytest.warns(UserWarning, match=r"protocols='knn': .*has no labels"):
        scores = sanslabel.evaluate(clips_run.path, protocols=protocols)
    assert {score.protocol for score in scores} == {"near_far", "shots"}
    assert {score.split for score in scores} == {"a fifth of the clips"}
    assert {score.trained_on for score in scores} == {"without labels"}
    assert {score.n_test for score in scores} == {16}, "two of the ten clips"
    named = {score.representation for score in scores}
    assert named == {"chance", "pixels", "random encoder", TRAINED}
    assert all(score.gains for score in scores if score.representation == TRAINED)
    written = json.loads((clips_run.path / "evaluation" / "data.json").read_text())
    assert len(written["scores"]) == len(scores)
    assert "Near frames closer than others (AUROC in %) on 16 frames (a fifth of the clips" in str(scores)
    with pytest.raises(Unlabeled):
        sanslabel.evaluate(clips_run.path, protocols="knn")


def test_pictures_without_time_are_refused_in_one_sentence(run):
    sentence = (
        "protocols='shots': digits has no time; name a video with `data`, add `fps` if each of its folders holds the "
        "frames of a clip, or leave the protocol out"
    )
    with pytest.raises(NotMeasurable, match=sentence):
        sanslabel.evaluate(run, protocols="shots")


def test_a_rate_makes_other_folders_clips(clips_run, tmp_path):
    """The data of the run are read as in training, and other folders are classes unless a rate is given."""
    other = shutil.copytree(clips_run.path.parent / "data", tmp_path / "other")
    with pytest.raises(NotMeasurable, match=r"other has no time; .* add `fps` if each of its folders"):
        sanslabel.evaluate(clips_run.path, data=other, protocols="shots")
    own = sanslabel.evaluate(clips_run.path, protocols=Shots(away=0.5))
    same = sanslabel.evaluate(clips_run.path, data=other, fps=4, protocols=Shots(away=0.5))
    assert [score.value for score in same] == [score.value for score in own]
    with pytest.warns(UserWarning, match="scores of shots had other values before"):
        slow = sanslabel.evaluate(clips_run.path, data=other, fps=1.0, protocols=Shots(away=0.5))
    assert "Folders of frames are clips: 10 clips of 1 frames a second." in slow.remarks
    assert slow[0].value > own[0].value, "the chance is higher, since the next frame counts, too"
    with pytest.raises(BadInput, match=r"digits: `fps` is a rate of frames, and these data have none; leave it out\."):
        sanslabel.evaluate(clips_run.path, data="digits", fps=4.0)
    with pytest.raises(BadInput, match=r"fps=0: must be .*above 0"):
        sanslabel.evaluate(clips_run.path, fps=0)


def test_a_rate_makes_clips_of_the_classes_that_a_run_had(clips_run, tmp_path):
    """A run without a rate and pairs took each folder for a class."""
    data = clips_run.path.parent / "data"
    options = {"image_size": 8, "encoder": {"name": "mlp", "hidden": [16]}, "batch": 16, "epochs": 1, "workers": 0}
    run = sanslabel.train(data, out=tmp_path / "run", precision="float32", **options)
    assert len({score.value for score in sanslabel.evaluate(run.path, protocols="knn")}) > 1
    scores = sanslabel.evaluate(run.path, fps=4, protocols=("shots", NearFar(near=0.3, far=1.0)))
    assert {score.protocol for score in scores} == {"shots", "near_far"}
    with pytest.raises(SystemExit, match="0"):
        main(["evaluate", str(run.path), "--fps", "4", "--protocols", "shots", "--device", "cpu"])
