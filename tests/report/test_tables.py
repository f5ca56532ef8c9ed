"""The tables of a report: scores with the best and with gains, settings with all that a person asks for."""

import re
from dataclasses import replace

import pytest

from sanslabel.report.colors import HUES
from sanslabel.report.markup import Cell, table
from sanslabel.report.sections.facts import facts
from sanslabel.report.sections.scores import scores
from sanslabel.report.sections.verdicts import verdict_box
from sanslabel.report.snapshot import Measurement, snapshot
from sanslabel.scores import Gain, Score


def score(representation: str, value: float, *gains: Gain) -> Measurement:
    made = Score(
        protocol="knn",
        metric="accuracy",
        representation=representation,
        split="test split",
        labels_per_class=None,
        value=value,
        spread=None,
        n_train=10,
        n_test=20,
        seed=0,
        gains=gains,
    )
    return Measurement(made, "photos", "abc")


def lines(text: str) -> list[list[str]]:
    """Returns the text of all cells of a table, line by line."""
    clean = lambda cell: " ".join(re.sub(r"<.*?>", " ", cell).split())  # noqa: E731
    return [
        [clean(cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", line)]
        for line in re.findall(r"<tr.*?>(.*?)</tr>", text)
    ]


@pytest.fixture
def run(runs):
    return snapshot(runs["simclr"], "photos")


def test_the_best_is_marked_and_gains_have_intervals(run):
    gain = Gain(over="random encoder", value=6.25, low=-1, high=13.5)
    measured = [score("pixels", 50), score("random encoder", 52.5), score("trained encoder", 58.75, gain)]
    (text,) = scores([replace(run, measurements=[*measured, score("largest class", 20)])])
    assert lines(text) == [
        ["", "kNN"],
        ["largest class", "20.00"],
        ["pixels", "50.00"],
        ["random encoder", "52.50"],
        ["trained encoder", "58.75 (best)"],
        ["gain over random encoder", "+6.2 -1.0 to +13.5: may be chance"],
    ]
    assert text.count('class="best"') == 1


def test_representations_that_runs_share_have_one_line(run):
    other = replace(run, name="vae", color=HUES[1], measurements=[score("pixels", 50), score("trained encoder", 61)])
    run = replace(run, measurements=[score("pixels", 50), score("trained encoder", 58)])
    (text,) = scores([run, other])
    assert lines(text)[1:] == [
        ["pixels", "50.00"],
        ["photos: trained encoder", "58.00"],
        ["vae: trained encoder", "61.00 (best)"],
    ]
    assert HUES[0] in text
    assert HUES[1] in text


def test_the_verdict_is_amber_without_a_gain(run):
    chance = Gain(over="random encoder", value=1, low=-3, high=5)
    sure = replace(chance, low=0.5)
    folder = replace(run.folder, plan=replace(run.plan, epochs=40))
    lines = [{"step": step, "loss": 500 / step} for step in range(10, folder.steps + 1, 10)]
    healthy = replace(run, folder=folder, lines=lines)
    box = verdict_box(replace(healthy, measurements=[score("trained encoder", 50, chance)]))
    assert '<div class="verdict waiting">' in box
    assert "No better than an untrained encoder" in box
    box = verdict_box(replace(healthy, measurements=[score("trained encoder", 50, sure)]))
    assert '<div class="verdict ">' in box
    assert "gains 1.0 points" in box


def test_the_settings_of_a_run(run):
    remark = "3 of 100 pictures are copies of others; each is used once."
    plan = replace(run.plan, data="/home/me/pictures/photos", remarks=(remark,))
    (run.folder.path / "bad_samples.jsonl").write_text('{"sample": "a.png", "reason": "truncated"}\n')
    try:
        shown = dict(lines(facts([replace(run, folder=replace(run.folder, plan=plan))]))[1:])
    finally:
        (run.folder.path / "bad_samples.jsonl").unlink()
    assert shown["data"] == "photos / home/ me/ pictures/ photos"
    assert shown["samples"] == "1,438 images, 1 of them unreadable"
    assert shown["image size"] == "8 x 8 pixels"
    assert shown["remarks"] == remark
    assert shown["device"].startswith("cpu, ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d", shown["last step"])
    assert shown["steps"] == "10 of 10"
    assert "split" not in shown, "the data are gone"
    assert lines(facts([run]))[1:][3] == ["split", "trained on the train split; the test split is apart"]


def test_cells_name_their_column_for_phones():
    text = table(["", "kNN <1>"], [["pixels", Cell("50", best=True)]])
    assert 'data-column="kNN &lt;1&gt;"' in text
    assert 'role="table"' in text
