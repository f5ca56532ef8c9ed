"""Protocols as files: found by looking, with flags from their fields, documented, and merged into files of scores."""

import json
import sys
from dataclasses import fields
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from sanslabel import checkpoint
from sanslabel.cli.commands import evaluate as command
from sanslabel.errors import BadInput
from sanslabel.evaluation import evaluate, protocols
from sanslabel.evaluation.protocols import names, protocol_class, sentence
from sanslabel.evaluation.protocols.finetune import Finetune
from sanslabel.evaluation.protocols.knn import KNN
from sanslabel.evaluation.score_file import identity
from sanslabel.evaluation.table import heading, tables, title_of
from sanslabel.wording import flags_in_sentences

DOCS = Path(__file__).parents[2] / "docs" / "evaluation.md"
USER_PROTOCOL = '''"""nearest_mean: the accuracy of the nearest class mean."""

from dataclasses import dataclass
from typing import Annotated

import torch

from sanslabel.constraints import Fraction
from sanslabel.evaluation.features import accuracy
from sanslabel.evaluation.protocol import Protocol


@dataclass(frozen=True, kw_only=True)
class NearestMean(Protocol):
    shrink: Annotated[float, Fraction] = 0.0

    title = "Nearest class mean, in %"
    identified_by = ("shrink",)

    def measure(self, comparison):
        division, scores = comparison.division, []
        for name, (train, test) in comparison.features.items():
            means = torch.stack([train[division.train == c].mean(dim=0) for c in range(division.classes)])
            means = torch.lerp(means, train.mean(dim=0), self.shrink)
            value = accuracy(torch.cdist(test, means).argmin(dim=1), division.test)
            scores.append(comparison.score(self, "accuracy", name, value, division, {"shrink": self.shrink}))
        return scores
'''


@pytest.fixture
def user_protocol(tmp_path, monkeypatch):
    """A person's folder with a protocol, as SANSLABEL_PATH names it."""
    folder = tmp_path / "mine" / "protocols"
    folder.mkdir(parents=True)
    (folder / "nearest_mean.py").write_text(USER_PROTOCOL)
    monkeypatch.setattr(protocols, "__path__", [*protocols.__path__, str(folder)])
    yield
    sys.modules.pop("sanslabel.evaluation.protocols.nearest_mean", None)
    protocol_class.cache_clear()


def test_a_file_is_a_protocol(user_protocol, run):
    assert "nearest_mean" in names()
    assert sentence("nearest_mean") == "nearest_mean: the accuracy of the nearest class mean."
    kind = protocol_class("nearest_mean")
    for protocol in ("nearest_mean", kind(shrink=0.5), kind(shrink=0.5)):
        scores = evaluate(run, protocols=(protocol,), baselines=False)
    assert [(s.protocol, s.representation) for s in scores] == [("nearest_mean", "trained encoder (student)")]
    content = json.loads((run / "evaluation" / "digits.json").read_text())["scores"]
    assert [score["settings"]["shrink"] for score in content] == [0.0, 0.5], "measured again, not twice"
    written = StringIO()
    (made,) = tables(scores)
    Console(file=written, width=150).print(made)
    assert "Nearest class mean, in % on 359 images" in written.getvalue()
    with pytest.raises(BadInput, match=r"nearest_mean.shrink=2: must be from 0 to 1"):
        kind(shrink=2)


def test_its_scores_are_read_without_it(user_protocol, run):
    evaluate(run, protocols=("nearest_mean",), baselines=False)
    (score,) = json.loads((run / "evaluation" / "digits.json").read_text())["scores"]
    assert identity(score)[-1] == 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protocols, "__path__", list(protocols.__path__)[:1])
        assert "nearest_mean" not in names()
        assert title_of("nearest_mean") == ""
        assert heading(None, "nearest_mean", "accuracy", alone=False) == "nearest_mean"
        evaluate(run, protocols=(KNN(draws=1),), baselines=False)
    content = json.loads((run / "evaluation" / "digits.json").read_text())["scores"]
    assert [s["protocol"] for s in content] == ["nearest_mean", "knn", "knn"]


def test_its_fields_are_flags(user_protocol, run, capsys):
    command.run([str(run), "--protocols", "nearest_mean", "--nearest-mean.shrink", "0.5"])
    content = json.loads((run / "evaluation" / "digits.json").read_text())["scores"]
    assert {score["settings"]["shrink"] for score in content} == {0.5}
    assert "Nearest class mean" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--transfer.data", "digits"], "--transfer.data is only used with --protocols transfer"),
        (["--protocols", "linear", "--knn.k", "5"], "--knn.k is only used with --protocols knn"),
        (["--protocols", "relation", "--linear.labels-per-class", "5"], "--linear.labels-per-class is only used with"),
        (["--relation.reference", "runs/other"], "--relation.reference is only used with --protocols relation"),
        (["--protocols", "kn"], "there is no protocol 'kn'; did you mean knn?"),
        (["--finetune.steps", "0"], "--finetune.steps 0: must be 1 or more"),
    ],
)
def test_flags_that_do_not_go_together(run, flags, reason):
    with pytest.raises(BadInput) as error:
        command.run([str(run), *flags])
    with flags_in_sentences():
        assert reason in str(error.value)
    assert not (run / "evaluation").exists()


@pytest.mark.parametrize("name", names())
def test_every_protocol_is_documented(name):
    kind = protocol_class(name)
    assert sentence(name).startswith(f"{name}: ")
    assert kind().name == name
    (line,) = [line for line in DOCS.read_text().splitlines() if line.startswith(f"| `{name}` |")]
    for field in fields(kind):
        assert f"--{name}.{field.name} ".replace("_", "-") in line
        assert field.name in Path(sys.modules[kind.__module__].__file__ or "").read_text()


def test_scores_differ_by_what_was_measured(run):
    evaluate(run, protocols=(KNN(k=5, draws=1), KNN(k=7, draws=1)), baselines=False)
    scores = checkpoint.read_json(run / "evaluation" / "digits.json")["scores"]
    assert len({identity(score) for score in scores}) == len(scores) == 4
    assert identity({**scores[0], "value": 0.0, "spread": 1.0}) == identity(scores[0])
    tuned = [{**scores[0], "protocol": "finetune", "settings": Finetune(lr=lr).settings()} for lr in (1e-3, 2e-3)]
    assert identity(tuned[0]) != identity(tuned[1])
    old = {key: value for key, value in scores[0].items() if key not in ("metric", "stage")}
    assert identity(old) == identity(scores[0]), "a file of an earlier version"
