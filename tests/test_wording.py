"""Sentences that name settings as flags at the command line, and as arguments in Python."""

import pickle
import re
from typing import get_type_hints

import pytest

from sanslabel.constraints import choices_of
from sanslabel.errors import BadInput, BadValue
from sanslabel.settings import Settings
from sanslabel.wording import WORDS, argument_name, counted, flags_in_sentences, plural, with_arguments, worded

SENTENCES = {
    "--chunk: does not go with --sharding full; leave one of them out.": (
        "`chunk`: does not go with sharding='full'; leave one of them out."
    ),
    "name labeled data with --data.": "name labeled data with `data`.",
    "train for two or more (--epochs 2).": "train for two or more (epochs=2).",
    "--device tpu: must be one of cpu, cuda.": "device='tpu': must be one of cpu, cuda.",
    "--image-size 4: conv needs 8 pixels or more.": "image_size=4: conv needs 8 pixels or more.",
    "a/b: exists; continue it with --resume a/b.": "a/b: exists; continue it with sanslabel.resume('a/b').",
    "continue with: sanslabel train --resume a/b": "continue with: sanslabel.resume('a/b')",
    "lower --method.temperature": "lower `temperature`",
    "--knn.k 49: there are 48 images.": "knn.k=49: there are 48 images.",
    "lower --workers or --batch": "lower `workers` or `batch`",
    "so that restarted processes (--max-restarts) find it": "so that restarted processes (--max-restarts) find it",
    "--allow-missing, --no-evaluate": "`allow_missing`, `no_evaluate`",
    "give more images (--n, --data)": "give more images (`count`, `data`)",
    "a plain sentence -- with dashes, and a-b--c": "a plain sentence -- with dashes, and a-b--c",
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_flags_become_arguments(sentence):
    assert with_arguments(sentence) == worded(sentence) == str(BadInput(sentence)) == SENTENCES[sentence]
    assert with_arguments(SENTENCES[sentence]) == SENTENCES[sentence]
    with flags_in_sentences():
        assert worded(sentence) == str(BadInput(sentence)) == sentence


def test_a_value_is_shown_as_it_was_written():
    error = BadValue("--image-size", (64, 64), "must be a whole number", 64)
    assert str(error) == "image_size=(64, 64): must be a whole number; for example image_size=64."
    text = BadValue("--epochs", "3", "must be a whole number", 3)
    assert str(text) == "epochs='3': must be a whole number; for example epochs=3."
    with flags_in_sentences():
        assert str(text) == "--epochs 3: must be a whole number; for example --epochs 3."
    assert str(pickle.loads(pickle.dumps(error))) == str(error), "processes hand errors to each other"
    assert str(BadValue("--data", [0] * 100, "must be a path")) == "data=list(…): must be a path."
    assert str(BadValue("--lr", "x", "must be a number")) == "lr='x': must be a number."


def test_words_for_several_things():
    assert [plural(word) for word in ("image", "window of sound", "crop of a track", "pair of image and sound")] == [
        "images", "windows of sound", "crops of tracks", "pairs of image and sound"
    ]  # fmt: skip
    assert [counted(count, "crop of a track") for count in (1, 1200)] == ["1 crop of a track", "1,200 crops of tracks"]


def test_names():
    assert argument_name("--image-size") == "image_size"
    assert argument_name("--method.view.crop") == "view.crop"


def test_words_of_settings_are_values():
    hints = get_type_hints(Settings, include_extras=True)
    words = {str(word) for hint in hints.values() for word in choices_of(hint)}
    assert words <= set(WORDS.split())


def test_every_flag_in_a_sentence_is_found():
    assert not re.search(r"(?<!`)--[a-z]", with_arguments("--a: b --c-d. (--e.f-g), --h 3; --i=4"))
