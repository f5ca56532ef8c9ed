"""HTML pages in two languages: paragraphs by their ids."""

import pytest

from sanslabel.errors import BadInput
from sanslabel.sources import Data, TextChoices, open_source
from sanslabel.sources.texts.pages import paragraphs_of

PAGE = """<!DOCTYPE html><html><head><title id="t">No</title><style>p { }</style></head><body>
<h1 id="h1" dir="auto">A heading</h1>
<p>no id</p><p id="empty"> </p>
<p id="one" class="x">Choose <span class="menuitem">View &amp; <b>Field</b></span>
   now&nbsp;.<br>Then go.</p>
<p id="keys"><span class="switch"><span hidden="true" id="MACx">Command</span>
<span hidden="true" id="defaultx">Ctrl</span></span>+F9</p>
<ul><li id="item">Outer <p id="inner">Inner</p> after</li><li id="open">Not closed
<li id="next">Next</li></ul>
<p id="one">a second time</p><script>if (a < b) { "</p>" }</script>
<p id="last" hidden>never shown</p><p id="cut">cut off <span class="x
"""


def test_paragraphs_are_the_text_of_elements_with_an_id(tmp_path):
    file = tmp_path / "a.html"
    file.write_text(PAGE)
    assert paragraphs_of(file) == {
        "h1": "A heading",
        "empty": "",
        "one": "Choose View & Field now . Then go.",
        "keys": "Ctrl+F9",
        "item": "Outer",
        "inner": "Inner",
        "open": "Not closed",
        "next": "Next",
        "last": "",
        "cut": "cut off",
    }


def page(**texts: str) -> str:
    return "".join(f'<p id="{name}">{text}</p>\n' for name, text in texts.items())


@pytest.mark.parametrize(
    "form", ["{language}/text/{page}.html", "docs/{page}.{language}.html", "x/{language}/{page}.htm"]
)
def test_pages_in_two_languages_are_paired_by_id(tmp_path, form):
    pytest.importorskip("tokenizers")
    for number in range(25):
        for language, texts in (
            ("en-US", page(a=f"one {'x' * number}", b="two", c="OK")),
            ("fr", page(c="OK", a=f"un {'x' * number}")),
        ):
            file = tmp_path / form.format(language=language, page=f"page{number}")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(texts)
    (tmp_path / "lonely.html").write_text(page(a="one"))

    def opened(split: str, **choices):
        return open_source(Data((tmp_path,), signals=("source", "target"), text=TextChoices(**choices)), split)

    texts = opened("all")
    assert len(texts) == 25
    assert texts.sentences["target"][0].startswith("un")
    assert texts.id(0).endswith(":a")
    test = opened("test")
    assert {test.documents[number] for number in test.document} == {test.id(0)[:-2]}
    assert opened("all", languages=("fr", "en-US")).sentences["source"][0].startswith("un")


def test_bytes_that_are_not_utf8_are_refused_with_file_and_line(tmp_path):
    file = tmp_path / "a.html"
    file.write_bytes(b"<p>\n<p id='a'>\xe9t\xe9</p>")
    with pytest.raises(BadInput, match=r"a\.html, line 2: byte 0xe9 is not UTF-8"):
        paragraphs_of(file)


def test_pages_without_a_partner_are_refused(tmp_path):
    for language in ("en", "fr", "de"):
        (tmp_path / language).mkdir()
    (tmp_path / "en" / "a.html").write_text(page(a="one"))
    (tmp_path / "fr" / "a.html").write_text(page(a="un"))
    (tmp_path / "de" / "b.html").write_text(page(a="eins"))
    data = Data((tmp_path,), signals=("source", "target"), text=TextChoices(languages=("en", "de")))
    with pytest.raises(BadInput, match="has no page in both en and de"):
        open_source(data)
