import importlib
import json
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np
import pytest
import torch

from bench import __main__ as suite
from bench import film, layers, learning_page, learns, negatives
from bench.arithmetic import operations
from bench.bouncing import bouncing, pitch
from bench.growth import exponent
from bench.interleaving import interleaved, median_seconds
from bench.learning_tasks import CPU, Task, missing, settings, tasks, with_present_settings
from bench.markdown import with_table
from bench.shapes_with_sound import ridge_r2
from bench.spoken_garments import VOICES
from bench.time_to_accuracy import arrival
from bench.tuxpaint import stamps
from sanslabel.evaluation.features import Features
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.sources import open_source
from sanslabel.training.session import open_session


def test_the_page_is_what_the_results_say():
    """Rendered anew after each change of either: python -m bench --page."""
    assert suite.PAGE.read_text() == suite.page()


def test_the_pages_of_learning_and_layers_are_what_the_results_state():
    """Rendered anew after each change of either: python -m bench.learns --render, and python -m bench.layers --render.
    After a change of names, the digests of the settings in bench/results/learning.jsonl are computed anew."""
    assert (learns.ROOT / "docs/learning.md").read_text() == learns.rendered()
    stages = [json.loads(line) for line in layers.RESULTS.read_text().splitlines()]
    assert (learns.ROOT / "docs/layers.md").read_text() == layers.page(stages)


def test_the_page_of_the_film_is_what_the_results_state():
    """Rendered anew after each change of either: python -m bench.film --render."""
    assert film.PAGE.read_text() == film.page()


def test_a_film_is_split_at_the_nearest_cut():
    digits = open_source("digits").subset(torch.arange(60))
    clips = replace(digits, group=torch.arange(60) // 7, time=torch.arange(60) / 4)  # a cut at each 1.75 s, to 14.75 s
    before, after = film.divided(clips, 2 / 3)
    assert (len(before), len(after)) == (42, 18)
    assert set(before.group.tolist()).isdisjoint(after.group.tolist())
    assert float(film.divided(clips, 2 / 3, apart=1.0)[1].time.min()) == 11.5


@pytest.mark.parametrize(
    ("bench", "names"),
    [
        ("spoken_garments", {"spoken garments": {}}),
        ("stamps_spoken", {"stamps": {}}),
        ("languages", {"languages": {}}),
        ("shapes_with_sound", {f"{kind} shapes": {"shapes": kind} for kind in ("cluttered", "plain")}),
    ],
)
def test_the_tables_of_pairs_are_what_the_results_state(bench, names):
    """Rendered anew after each change of either: python -m bench.spoken_garments --render, and likewise."""
    module, page = importlib.import_module(f"bench.{bench}"), (learns.ROOT / "docs/pairs.md").read_text()
    lines = [json.loads(line) for line in module.RESULTS.read_text().splitlines()]
    for name, chosen in names.items():
        table = module.rendered([line for line in lines if chosen.items() <= line.items()])
        assert with_table(page, name, table) == page


@pytest.mark.parametrize(
    ("differences", "cell", "remark"),
    [
        ((1.0, 2.0, 3.0), "+2.0 (-0.5 to +4.5)", "no gain beyond the spread of seeds"),  # 2 ± 4.303 / √3
        ((1.9, 2.0, 2.1), "+2.0 (+1.8 to +2.2)", ""),
        ((-1.9, -2.0, -2.1), "-2.0 (-2.2 to -1.8)", "below its own start"),
        ((4.0,), "+4.0", "one seed"),
        ((), "", "start not measured"),
    ],
)
def test_a_gain_is_above_the_start_if_its_interval_is(differences, cell, remark):
    paired = learning_page.Paired(differences)
    assert (paired.cell, paired.remark) == (cell, remark)


def line(method, seed, knn, state="trained", encoder="conv", digest=None):
    about = {"method": method, "seed": seed, "state": state, "encoder": encoder, "device": "cpu"}
    scores = {"student": {"knn": knn, "linear": 2 * knn}}
    return about | {"settings": digest or settings(method, CPU, encoder, state), "scores": scores}


def test_gains_are_those_of_equal_seeds_and_rows_of_earlier_settings_stay():
    lines = [line("simclr", seed, 20 + seed, digest="earlier") for seed in range(3)]
    lines += [line("simclr", seed, 10 + seed, "start") for seed in reversed(range(3))]
    (row,) = learning_page.rows(lines, CPU)
    assert row[:4] == ["contrastive", "simclr†", "conv", "student"]
    assert row[6:8] == ["21.0 ± 1.0", "+10.0 (+10.0 to +10.0)"]
    assert row[8:] == ["42.0 ± 2.0", "+20.0 (+20.0 to +20.0)", "", ""]
    unchanged = with_present_settings(lines, ["simclr"], CPU, "cpu")
    assert [row[1] for row in learning_page.rows(unchanged, CPU)] == ["simclr"]
    assert with_present_settings(lines, ["vicreg"], CPU, "cpu") == lines
    lines += [line("simclr", 0, 40), line("simclr", 0, 30), line("supervised", 0, 50, encoder="mlp")]
    supervised, simclr = learning_page.rows(lines, CPU)
    assert (supervised[1:3], simclr[1:3], simclr[6]) == (["supervised", "mlp"], ["simclr", "conv"], "30.0")
    lines += [line("vicreg", seed, 10 + seed, "start") for seed in range(3)]
    assert learning_page.start_rows(lines) == [["conv", "full images", "11.0 ± 1.0", "22.0 ± 2.0", "simclr, vicreg"]]
    wanted = tasks(["simclr"], [0, 1], CPU)
    assert [*missing(wanted, CPU, "cpu", lines)] == [Task("simclr", 1, "trained", "conv")]


def test_longer_trainings_are_compared_with_the_start_of_the_shorter_one():
    longer = replace(CPU, times=4)
    assert [longer.epochs_of(name) for name in ("simclr", "mae")] == [40, 80]
    assert settings("mae", longer) != settings("mae", CPU)
    assert settings("mae", longer, "vit_micro", "start") == settings("mae", CPU, "vit_micro", "start")
    starts = [line("simclr", seed, 10 + seed, "start") for seed in range(3)]
    trained = [line("simclr", seed, 20 + 2 * seed, digest="longer") | {"steps": 1560} for seed in (0, 1)]
    (row,) = learning_page.longer_table(trained, starts).splitlines()[2:]
    assert [cell.strip() for cell in row.split("|")][1:8] == [
        "simclr", "2", "conv", "student", "1560", "", "21.0 ± 1.4",
    ]  # fmt: skip
    assert "+10.5 (+4.1 to +16.9)" in row


def test_a_start_is_what_its_training_starts_from(tmp_path, monkeypatch):
    setting = replace(CPU, samples=200, special={}, epochs=1)
    data = digits(tmp_path, monkeypatch, setting)
    monkeypatch.setattr(learns, "ONE_DRAW", (KNN(draws=1),))
    task, runs, scores_of = Task("vae", 1, "trained", "mlp"), [], learns.scores_of

    def measured(run, *others):
        runs.append(run)
        return scores_of(run, *others)

    monkeypatch.setattr(learns, "scores_of", measured)
    (line,) = learns.lines_of([task], setting, data, "cpu", 1)
    known: dict = {}
    scores = learns.start(replace(task, state="start"), setting, data, "cpu", known)
    assert line["scores"].keys() == scores.keys() == {"mean", "student"}
    assert line["scores"] != scores
    run, count = runs[0], len(runs)
    assert learns.start(replace(task, state="start"), setting, data, "cpu", known) == scores
    assert len(runs) == count, "what has the same weights is measured once"
    source = open_source(data, "train")
    before = open_session(tmp_path, run.plan, run.method(), run.recipe(), source).net.state_dict()
    start = learns.session_of(tmp_path, task, setting, data, "cpu").net.state_dict()
    assert before.keys() == start.keys()
    assert all(torch.equal(before[name], start[name]) for name in before)


def digits(folder, monkeypatch, setting=CPU) -> str:
    monkeypatch.setattr(learns, "open_source", lambda name, split: open_source("digits", split))
    path = learns.subset(folder, setting)
    monkeypatch.undo()
    return path


def test_held_out_images_are_training_images_that_are_not_trained_on(tmp_path, monkeypatch):
    setting = replace(CPU, samples=1000)
    (tmp_path / "held").mkdir()
    full = np.load(digits(tmp_path, monkeypatch, setting))
    held = np.load(digits(tmp_path / "held", monkeypatch, setting.without_test()))
    assert (len(full["images"]), len(full["test_images"])) == (1000, 359)
    assert (len(held["images"]), len(held["test_images"])) == (800, 200)
    both = np.concatenate([held["images"], held["test_images"]]).reshape(1000, -1)
    assert sorted(both.tolist()) == sorted(full["images"].reshape(1000, -1).tolist())
    assert settings("simclr", setting) != settings("simclr", setting.without_test())


def test_principal_components_are_those_of_the_training_images():
    draw = torch.randn(300, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([9.0, 1, 1, 5, 1, 1]) + 4
    made = learns.principal_components(Features(draw[:200], draw[200:]), {"conv": 2, "mlp": 6})
    assert [*made] == ["2 components, as conv"], "all components are the pixels"
    train, test = made["2 components, as conv"]
    axes = torch.linalg.svd(draw[:200] - draw[:200].mean(dim=0)).Vh[:2]
    expected = (draw[200:] - draw[:200].mean(dim=0)) @ axes.T
    torch.testing.assert_close(test.abs(), expected.abs(), rtol=1e-3, atol=1e-3)
    assert train.std(dim=0)[0] > train.std(dim=0)[1] > 4


def test_a_stage_is_chosen_by_held_out_images():
    seeds = [{"method": "pirl", "stages": [80.0, 90.0, 88.0], "held_out": [95.0, 91.0, 90.0]}]
    seeds += [{"method": "pirl", "stages": [80.0, 90.0, 89.0], "held_out": [80.0, 91.0, 92.0]}]
    assert layers.cells(seeds, "pirl")[5:] == ["-1.5 ± 0.7", "1, 3", "4.0 ± 5.7"], "the best on test images is 2"
    del seeds[0]["held_out"]
    assert layers.cells(seeds, "pirl")[5:] == ["-1.0", "3", "0.0"], "lines of earlier versions do not count"
    del seeds[1]["held_out"]
    assert layers.cells(seeds, "pirl")[5:] == ["-1.5 ± 0.7", "not measured", "not measured"]


def test_the_page_of_negatives_is_what_the_results_state():
    results = negatives.RESULTS
    lines = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    assert (learns.ROOT / "docs/negatives.md").read_text() == negatives.rendered(lines)


def test_a_finished_comparison_of_negatives_is_skipped():
    runs = list(negatives.missing([], 512, 2))
    assert len(runs) == 2 * len(negatives.LOSSES)
    line = {"method": "npid", "loss": runs[0][1], "samples": 512, "epochs": 2, "seed": 0, "recall": 1.0}
    assert list(negatives.missing([line], 512, 2)) == runs[1:]
    assert list(negatives.missing([line], 512, 3)) == runs
    assert line["loss"] not in negatives.rendered([line]), "the page has the runs of full size alone"


def test_the_page_says_where_no_gpu_was_at_hand(tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "RESULTS", tmp_path)
    about = {"device": "A processor", "memory": "1 GiB", "parts": {}}
    (tmp_path / "a.json").write_text(json.dumps(about | {"kind": "cpu"}))
    assert "No GPU was at hand" in suite.page()
    (tmp_path / "b.json").write_text(json.dumps(about | {"kind": "cuda", "device": "A card"}))
    assert "No GPU was at hand" not in suite.page()
    assert "# A card" in suite.page()


def test_operations_are_two_for_each_multiplication_forward_and_backward():
    x, layer = torch.randn(5, 7, requires_grad=True), torch.nn.Linear(7, 3, bias=False)
    assert operations(lambda: layer(x)) == 2 * 5 * 7 * 3
    assert operations(lambda: layer(x).sum().backward()) == 3 * 2 * 5 * 7 * 3
    images, conv = torch.randn(2, 3, 8, 8), torch.nn.Conv2d(3, 4, 3, padding=1)
    assert operations(lambda: conv(images)) == 2 * (2 * 8 * 8) * 4 * 3 * 9


def test_medians_are_of_rounds_in_which_each_call_runs():
    order = []
    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    assert set(median_seconds(calls, rounds=2, at_least=0)) == {"a", "b"}
    assert order == ["a", "a", "b", "b", "b", "a", "a", "b"]


def test_a_call_runs_within_its_context():
    order = []

    @contextmanager
    def context():
        order.append("(")
        yield
        order.append(")")

    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    interleaved(calls, rounds=1, at_least=0, contexts={"a": context})
    assert "".join(order) == "(aa)bbb(a)"


@pytest.mark.parametrize("name", suite.BENCHES)
def test_a_bench_that_was_cut_off_is_shown_as_far_as_it_came(name):
    (path, *_) = sorted(suite.RESULTS.glob("*.json"))
    section, lines = importlib.import_module(f"bench.{name}").section, json.loads(path.read_text())["parts"][name]
    for end in range(1, len(lines)):
        assert "##" in section(lines[:end])


@pytest.mark.parametrize(("name", "speeds"), [("step", "beside"), ("views", "views_per_second")])
def test_lines_that_were_measured_beside_other_peers_are_shown_together(name, speeds):
    (path, *_) = sorted(suite.RESULTS.glob("*.json"))
    section, lines = importlib.import_module(f"bench.{name}").section, json.loads(path.read_text())["parts"][name]
    other = {"lightly, bfloat16, 64 workers": 1.0} | {peer: lines[0][speeds][peer] for peer in [*lines[0][speeds]][:2]}
    assert "64 workers" in section([{**lines[0], speeds: other}, *lines[1:]])


def test_a_law_is_that_of_the_upper_half_of_the_sizes():
    sizes = [1, 2, 4, 8, 16, 32, 64]
    assert exponent(sizes, [64, 64, 64, *(n**2 for n in sizes[3:])], least=1) == pytest.approx(2)
    assert exponent(sizes[-3:], [n**1.5 for n in sizes[-3:]], least=1) == pytest.approx(1.5)
    assert exponent(sizes[-2:], sizes[-2:], least=1) is None
    assert exponent(sizes, sizes, least=65) is None


def test_the_goal_is_reached_on_a_line_through_the_readings():
    assert arrival([(10, 87.5), (20, 89.5), (30, 80)]) == pytest.approx(15)
    assert arrival([(10, 87), (20, 88.5)]) == 20
    assert arrival([(10, 90)]) == 10
    assert arrival([(10, 87), (20, 88)]) is None


def test_what_a_bench_measured_stands_beside_its_code_and_versions(tmp_path, monkeypatch):
    """Lines of an interrupted run keep the commit that they are of."""
    path, about = tmp_path / "a.json", {"kind": "cpu", "device": "A processor", "memory": "1 GiB"}
    made = importlib.import_module("bench.start")
    for commit, commands in (("old", ["import torch", "b"]), ("new", ["b"])):
        measured = {"on": "today", "commit": commit, "versions": {"torch": "2"}}
        monkeypatch.setattr(suite, "occasion", lambda measured=measured: measured)

        def lines(device, commands=commands):
            yield from ({"case": command, "seconds": 1.0} for command in commands)
            if len(commands) == 1:
                raise KeyboardInterrupt

        monkeypatch.setattr(made, "lines", lines)
        with suppress(KeyboardInterrupt):
            suite.measure("start", torch.device("cpu"), path, about)
    monkeypatch.setattr(suite, "RESULTS", tmp_path)
    (measured,) = (line for line in suite.page().splitlines() if "Measured" in line)
    assert "With torch 2." in measured
    assert "(old)" in measured
    assert "(new)" in measured


def test_pixels_give_the_pitch_of_plain_shapes_alone():
    shapes = (bouncing(1000, frames=1, side=16, rate=1000, cluttered=cluttered) for cluttered in (False, True))
    plain, cluttered = (
        ridge_r2(x[:800], octaves[:800], x[800:], octaves[800:])
        for x, octaves in (
            (torch.from_numpy(of["images"]).flatten(1).float(), torch.from_numpy(np.log2(pitch(of["size"]))))
            for of in shapes
        )
    )
    assert plain > 0.4
    assert abs(cluttered) < 0.1


def test_ridge_regression_is_the_same_by_samples_and_by_features():
    """With zeros beside the features, there are more features than samples, and the smaller matrix is another one."""
    draw = torch.Generator().manual_seed(0)
    x, y = (torch.randn(count, 20, generator=draw).double() for count in (50, 30))
    targets = x[:, 0] + x[:, 1].square(), y[:, 0] + y[:, 1].square()
    wide = [torch.cat([features, torch.zeros(len(features), 80).double()], dim=1) for features in (x, y)]
    by_features = ridge_r2(x, targets[0], y, targets[1])
    by_samples = ridge_r2(wide[0], targets[0], wide[1], targets[1])
    assert by_samples == pytest.approx(by_features, abs=1e-9)
    assert 0.1 < by_features < 0.9


def test_voices_of_the_test_were_not_trained_on():
    assert not set(VOICES["train"].split()) & set(VOICES["test"].split())


def test_stamps_whose_number_is_a_multiple_of_5_are_kept_however_they_are_counted(tmp_path):
    folder = tmp_path / "tuxpaint-stamps-default-2022.06.04-1/usr/share/tuxpaint/stamps"
    (folder / "animals/birds").mkdir(parents=True)
    for number in range(20):
        (folder / f"animals/birds/{number:02}.png").touch()
    for name in ("00_mirror.png", "01.svg"):  # a second picture and a second file of a stamp are no stamps
        (folder / "animals/birds" / name).touch()
    (folder / "animals/birds/02.txt").write_text("A Crow.\nfr.utf8=Une corneille\n")
    (folder / "animals/birds/02_desc_fr.ogg").touch()
    used = stamps(tmp_path)
    assert [stamp.picture.name for stamp in used] == [
        f"{number:02}.png" for number in range(20) if number % 5 and (number + 1) % 5
    ]
    assert (used[1].category, used[1].text) == ("animals/birds", "a crow.")
    assert used[1].recording("fr") == folder / "animals/birds/02_desc_fr.ogg"
    assert used[1].recording("ru") is None


def test_a_table_takes_the_place_of_the_one_before():
    page = "a\n<!-- b: made by --render -->\nold\n<!-- end of b -->\nc"
    after = "a\n<!-- b: made by --render -->\n\nnew\n\n<!-- end of b -->\nc"
    assert with_table(page, "b", "new") == after
    assert with_table(after, "b", "new") == after
    with pytest.raises(ValueError, match="no place for c"):
        with_table(page, "c", "new")
