"""The filmstrip of nearest frames: what it shows, and that a page of clips has one."""

import re

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import normalize

import sanslabel
from sanslabel.report import report
from sanslabel.report.markup import Frame, film
from sanslabel.report.neighborhoods import filmstrips


def strips_by_loops(unit, group, time, frame, length, away):
    chosen = []
    for _ in range(length):
        allowed = [
            row
            for row in range(len(unit))
            if row not in (frame, *chosen)
            and all(group[row] != group[other] or abs(time[row] - time[other]) >= away for other in (frame, *chosen))
        ]
        if allowed:
            chosen.append(max(allowed, key=lambda row: float(unit[row] @ unit[frame])))
    return chosen


def test_nearest_frames_are_of_other_moments():
    generator = torch.Generator().manual_seed(0)
    unit = normalize(torch.randn(60, 5, generator=generator), dim=1)
    group, time = torch.arange(60) // 20, torch.arange(60).double() % 20 / 10
    found = filmstrips(unit, group, time, 5, 4, 0.5)
    assert [strip.frame for strip in found] == [0, 15, 30, 44, 59]
    for strip in found:
        assert list(strip.nearest) == strips_by_loops(unit, group, time, strip.frame, 4, 0.5)
    assert filmstrips(unit[:5], group[:5], time[:5], 3, 4, 0.5) == [], "nothing is half a second away"
    assert len(filmstrips(unit, group, time, 1, 99, 1.0)[0].nearest) == 5, "two of each other clip, and one of its own"


def test_names_are_no_markup():
    html = film([[Frame("abc", "<b>/1.png", "0.0 s"), Frame("def", "b", "1.0 s")]])
    assert "<b>" not in html
    assert html.count("<figure") == 2


def test_a_page_about_clips_has_a_filmstrip(tmp_path):
    random = np.random.default_rng(0)
    for row in range(36):
        path = tmp_path / "clips" / f"clip{row // 12}" / f"{row % 12}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    options = {"image_size": 8, "encoder": {"name": "mlp", "hidden": [8]}, "batch": 12, "epochs": 1, "workers": 0}
    run = sanslabel.train(tmp_path / "clips", near=0.5, fps=4.0, out=tmp_path / "run", **options)
    html = report(run.path, out=tmp_path / "page.html").read_text()
    assert "<h3>Nearest frames</h3>" in html
    assert html.count('<div class="film">') == 8
    assert re.search(r"<figcaption class=.dim.>2.8 s</figcaption>", html)
