"""Texts as a source: what is kept, how batches are padded, and what the fingerprint depends on."""

from collections.abc import Iterable

import pytest
import torch

from sanslabel import distributed
from sanslabel.errors import BadInput
from sanslabel.inputs import TextSpec
from sanslabel.sources import Data, TextChoices, batches, open_source, ordered
from sanslabel.sources.source import Request, Wanted
from sanslabel.sources.texts.texts import Sentence, Texts, texts_from
from sanslabel.sources.texts.tokenizer import END, Tokenizer

pytest.importorskip("tokenizers")
CPU = torch.device("cpu")
WORDS = ("cat", "dog", "bird", "house", "tree", "river", "stone", "cloud", "king", "queen", "door", "ship")


def pairs(count: int) -> list[Sentence]:
    """Returns pairs of 1 to 12 words, whose translation is twice as long."""
    texts = [" ".join(WORDS[(n * k + k) % 12] + str(n) for k in range(1, 2 + n % 12)) for n in range(count)]
    return [Sentence("a", n, text, f"{text} {text}") for n, text in enumerate(texts)]


def source(sentences: Iterable[Sentence], split: str = "all", messages: bool = False, **choices) -> Texts:
    wanted = Wanted(text=TextChoices(**choices))
    return texts_from({"all": sentences}, "texts", split, wanted, messages)


@pytest.fixture(scope="module")
def many() -> Texts:
    return source(pairs(300))


def test_both_signals_have_one_vocabulary(many):
    assert many.inputs["source"] == many.inputs["target"]
    assert many.inputs["source"] == TextSpec(vocabulary=many.tokenizer.size, length=64, tokenizer=many.tokenizer.sha256)


def test_ids_are_the_sentence_and_its_end(many):
    loaded = many.load(Request(torch.tensor([7, 2])))
    for name, signal in loaded.signals.items():
        for row, ids, length in zip([7, 2], signal.ids.tolist(), signal.lengths.tolist(), strict=True):
            assert many.tokenizer.decode(ids) == many.sentences[name][row]
            assert ids[length - 1] == END
            assert ids[length:] == [0] * (len(ids) - length)


def test_a_batch_is_padded_to_its_longest_rounded_up_to_eight(many):
    for rows in (torch.tensor([0, 12]), torch.arange(12), torch.tensor([11])):
        for name, signal in many.load(Request(rows)).signals.items():
            longest = int(many.tokens[name].length[rows].max())
            assert signal.ids.shape == (len(rows), (longest + 7) // 8 * 8)
            assert signal.ids.dtype == torch.int64


def test_padding_ends_at_the_longest_length():
    few = source(pairs(60), longest=13)
    assert few.load(Request(torch.arange(len(few)))).signals["target"].ids.shape[1] <= 13


def test_a_subset_has_the_same_samples(many):
    rows = torch.tensor([5, 200, 3])
    few, of_all = many.subset(rows).load(Request(torch.arange(3))).signals, many.load(Request(rows)).signals
    assert all(torch.equal(a, b) for name in few for a, b in zip(few[name], of_all[name], strict=True))
    assert [many.subset(rows).id(place) for place in range(3)] == ["a:5", "a:200", "a:3"]


@pytest.mark.parametrize("world", [2, 4])
def test_processes_pad_alike(many, monkeypatch, world):
    def run(size: int, rank: int):
        monkeypatch.setattr(distributed, "world_size", lambda: size)
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        return [batch.signals for _, batch in batches(many, 16, seed=0, epochs=1, device=CPU)]

    alone, apart = run(1, 0), [run(world, rank) for rank in range(world)]
    assert len({signals["source"].ids.shape for signals in alone}) > 1
    for step, signals in enumerate(alone):
        for name in signals:
            if name != "label":
                assert torch.equal(signals[name].ids, torch.cat([local[step][name].ids for local in apart]))


@pytest.mark.parametrize("done", [1, 17, 18, 30])
def test_batches_continue_in_the_middle_of_an_epoch(many, same, done):
    def stream(start: int) -> list:
        return list(batches(many, 16, seed=3, epochs=2, start=start, device=CPU))

    assert same(stream(done), stream(0)[done:])


def test_batches_have_similar_lengths(many):
    spread = [
        float(batch.signals["source"].lengths.float().std())
        for _, batch in batches(many, 20, seed=0, epochs=1, device=CPU)
    ]
    assert sum(spread) / len(spread) < 0.1 * float(many.tokens["source"].length.float().std())
    in_order = [batch.index for batch in ordered(many, 64, device=CPU)]
    assert torch.equal(torch.cat(in_order), torch.arange(len(many)))


def test_what_is_left_out_is_counted():
    texts = source(
        [
            Sentence("a", 1, "one cat", "un chat"),
            Sentence("a", 2, " one cat ", "un chat"),
            Sentence("a", 3, "", "rien"),
            Sentence("a", 4, "nothing", "  "),
            Sentence("a", 5, "one cat", "un matou"),
            Sentence("a", 6, "long " * 80, "long"),
            Sentence("a", 7, "x" * 100_000, "long"),
            Sentence("a", 8, "same", "same"),
        ]
    )
    assert texts.place == [1, 5, 8]
    assert texts.remarks == (
        "Sentences that are left out: 1 repeated, 2 with an empty side, 2 of more than 64 tokens.",
        "Held out for the test, by template: 1 of 4.",
    )


def test_untranslated_and_wordless_messages_are_left_out():
    messages = [("Open", "Ouvrir"), ("OK", "OK"), ("%s: %d", "%s : %d"), ("%(name)s", "« %(name)s »"), ("3.5", "3,5")]
    texts = source([Sentence("a", n, *pair) for n, pair in enumerate(messages)], messages=True)
    assert texts.sentences == {"source": ["Open"], "target": ["Ouvrir"]}
    assert "1 not translated, 3 without words" in texts.remarks[0]


def test_sentences_in_common_are_a_group():
    texts = source([Sentence("a", n, *pair) for n, pair in enumerate([("a", "1"), ("b", "2"), ("a", "3"), ("c", "2")])])
    assert texts.group.tolist() == [0, 1, 0, 1]
    assert source(pairs(20)).group is None


def test_texts_of_one_language_have_no_target():
    texts = source(pair._replace(target=None) for pair in pairs(50))
    assert set(texts.inputs) == {"source"}
    assert set(texts.load(Request(torch.arange(2))).signals) == {"source"}


def test_splits_share_nothing_and_the_vocabulary_is_of_training_alone():
    train, test = source(pairs(400), "train"), source(pairs(400), "test")
    assert train.inputs == test.inputs
    assert not set(train.sentences["source"]) & set(test.sentences["source"])
    texts = [text for name in ("source", "target") for text in train.sentences[name]]
    assert train.tokenizer == Tokenizer.trained(texts)


def test_a_copy_of_a_test_sentence_is_not_trained_on():
    of_splits = {"train": pairs(30), "test": [*pairs(40)[30:], pairs(30)[3]]}
    wanted = Wanted(text=TextChoices(longest=200))
    train, test = (texts_from(of_splits, "texts", split, wanted) for split in ("train", "test"))
    assert (len(train), len(test)) == (29, 11)


def test_the_fingerprint_changes_with_texts_vocabulary_and_length(many):
    fingerprints = {
        many.fingerprint,
        source(pairs(299)).fingerprint,
        source(pairs(300), vocabulary=300).fingerprint,
        source(pairs(300), longest=60).fingerprint,
        many.subset(torch.arange(299)).fingerprint,
    }
    assert len(fingerprints) == 5
    assert source(pairs(300)).fingerprint == many.fingerprint


@pytest.mark.parametrize(
    ("sentences", "choices", "message"),
    [
        ([], {}, "has no sentences; give a file"),
        (
            [Sentence("a", n, f"s{n}", "") for n in range(9)],
            {},
            r"no sentence that can be used \(9 with an empty side\)",
        ),
        (pairs(9), {"longest": 2}, "each of the 9 sentences of its all split has more than 2 tokens; raise `longest`"),
    ],
)
def test_data_without_sentences_are_refused(sentences, choices, message):
    with pytest.raises(BadInput, match=message):
        source(sentences, **choices)


def test_numbers_are_a_set_of_that_name():
    test = open_source("numbers", "test")
    longer = open_source(Data(("longer-numbers",), text=TextChoices(tokenizer=test.tokenizer)), "test")
    assert set(test.documents) == {"number", "date", "clause"}
    assert len(test) > 3000 < 2 * len(longer)
    assert int(longer.tokens["source"].length.max()) > int(test.tokens["source"].length.max())
    assert longer.inputs == test.inputs


def test_choices_of_texts_are_refused_for_pictures():
    with pytest.raises(BadInput, match="`languages`, `vocabulary` and `longest` are for texts; leave them out"):
        open_source(Data(("digits",), text=TextChoices(longest=10)))
