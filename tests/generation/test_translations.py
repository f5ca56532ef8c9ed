"""Translations: the search's own, in the order of the texts, whatever is translated beside them."""

import io
import sys
from importlib import import_module

import pytest
import torch

import sanslabel
from sanslabel.batch import Tokens
from sanslabel.cli.commands import translate
from sanslabel.cli.main import main
from sanslabel.errors import BadInput
from sanslabel.generation import translations
from sanslabel.generation.model import open_model
from sanslabel.report import report
from sanslabel.sources.texts.tokenizer import Tokenizer

pytest.importorskip("tokenizers")
WORDS = {"cat": "chat", "dog": "chien", "bird": "oiseau", "house": "maison", "tree": "arbre", "king": "roi"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on three words and their translations in the same order, which it learns nearly without mistakes."""
    folder = tmp_path_factory.mktemp("translations")
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 6, (600, 3), generator=generator).tolist()
    names = list(WORDS)
    source = [" ".join(names[i] for i in row) for row in rows]
    target = [" ".join(WORDS[names[i]] for i in row) for row in rows]
    for split, part in (("train", slice(60, None)), ("test", slice(60))):
        for side, lines in (("en", source), ("fr", target)):
            (folder / f"{split}.{side}").write_text("\n".join(lines[part]) + "\n")
    options = {"method": "translation", "epochs": 16, "batch": 32, "vocabulary": 300, "longest": 16, "device": "cpu"}
    return sanslabel.train(str(folder), out=folder / "run", workers=0, **options).path


SENTENCES = ["cat dog tree", "", "king", "house bird cat", "tree king dog", "  "]


def test_it_translates_what_it_has_learned(run):
    assert list(translations(run, ["cat dog tree", "king house bird"])) == ["chat chien arbre", "roi maison oiseau"]


def test_the_order_stays_and_empty_texts_stay_empty(run):
    together = list(translations(run, SENTENCES))
    assert together[1] == together[5] == ""
    assert together == [next(translations(run, [text])) for text in SENTENCES]


def test_a_beam_of_one_is_greedy_search(run):
    model = open_model(run)
    tokenizer = Tokenizer.open(run / "tokenizer.json")
    ids = torch.tensor([next(tokenizer.encode(["cat dog tree"]))])
    with model.computing():
        found = model.method.translate(model.net, Tokens(ids, torch.tensor([ids.shape[1]])), beam=1)
    assert list(translations(run, ["cat dog tree"], beam=1)) == [tokenizer.decode(found.ids[0].tolist())]


def test_texts_may_come_from_a_stream_and_are_not_read_ahead_of_their_part(run, monkeypatch):
    monkeypatch.setattr(import_module("sanslabel.generation.translations"), "READ", 2)
    read = []
    stream = translations(run, (read.append(text) or text for text in SENTENCES))
    next(stream)
    assert read == SENTENCES[:2]


def test_a_file_and_standard_input_give_a_line_for_each_line(run, tmp_path, capsys, monkeypatch):
    file = tmp_path / "lines.txt"
    file.write_text("\n".join(["cat dog tree", "", "king " * 20, "king house bird"]) + "\n")
    translate.run([str(run), str(file)])
    printed = capsys.readouterr()
    assert printed.out.split("\n") == ["chat chien arbre", "", "", "roi maison oiseau", ""]
    assert "Left empty: 1 line longer than the sentences of the training" in printed.err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"cat dog tree\r\nking house bird")))
    translate.run([str(run), "-"])
    assert capsys.readouterr().out == "chat chien arbre\nroi maison oiseau\n"
    translate.run([str(run), "cat dog tree"])
    assert capsys.readouterr().out == "chat chien arbre\n"


def test_bytes_that_are_not_utf_8_are_refused_with_their_line(run, tmp_path):
    file = tmp_path / "lines.txt"
    file.write_bytes(b"cat\n\xff\n")
    with pytest.raises(SystemExit) as error:
        main(["translate", str(run), str(file)])
    assert error.value.code == 2


def test_a_run_that_cannot_translate_is_refused(runs):
    with pytest.raises(BadInput, match="cannot translate texts; train one of translation"):
        list(translations(runs("vae"), ["cat"]))


def test_the_report_of_such_a_run_has_curves_and_says_why_it_has_no_map(run, tmp_path):
    page = report(run, out=tmp_path / "page.html").read_text()
    assert "No map: texts have no pictures to show" in page
    assert "Training makes this number smaller" in page
