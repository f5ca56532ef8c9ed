"""The page in a real browser: it needs no network, reports no errors, and answers the pointer and the keyboard."""

from functools import cache
from shutil import which

import pytest

from tests.report.conftest import MARKUP

CHROMIUM = which("chromium") or which("chromium-browser") or which("google-chrome")
sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module", params=[("desktop", 1280, "light"), ("phone", 390, "dark")], ids=lambda p: p[0])
def window(request, browser):
    """A function that opens a page, each page once, and the list of errors that occurred."""
    _, width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    trouble: list[str] = []

    @cache
    def open_(path):
        page = context.new_page()
        page.on("console", lambda message: trouble.append(message.text))
        page.on("pageerror", lambda error: trouble.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else trouble.append(r.url))
        page.goto(path.as_uri())
        page.wait_for_selector(f"body[data-drawn={scheme}]", timeout=60_000)
        return page

    yield open_, trouble
    context.close()


@pytest.fixture
def opened(window):
    """A function that opens a page. At the end of the test no error may have occurred on it."""
    open_, trouble = window
    yield open_
    assert trouble == []


def position_of(page, chart: str, row: int) -> tuple[float, float]:
    """Returns the position of a point of a map in the window, in pixels."""
    page.locator(f"#{chart}").scroll_into_view_if_needed()
    return page.evaluate(
        """([chart, row]) => {
            const view = views[chart], padding = view.padding();
            const origin = [view.origin()[0] + padding.left, view.origin()[1] + padding.top];
            const box = document.querySelector(`#${chart} canvas`).getBoundingClientRect();
            const point = specs[chart].data.values[row];
            return [box.left + origin[0] + view.scale("x")(point.x), box.top + origin[1] + view.scale("y")(point.y)];
        }""",
        [chart, row],
    )


def test_hover_click_and_keys(page, opened):
    window = opened(page("simclr"))
    assert window.evaluate("document.documentElement.scrollWidth") <= window.viewport_size["width"], (
        "nothing sticks out"
    )
    chart = window.evaluate("Object.keys(maps)[0]")
    names = window.evaluate(f"maps['{chart}'].names")
    assert window.locator("#hover").is_hidden()
    # Of points that overlap, a click hits the last one, so this is the last image.
    row = len(names) - 1
    window.mouse.move(*position_of(window, chart, row))
    window.wait_for_selector("#hover:not([hidden])")
    assert names[row] in window.locator("#hover").inner_text()
    assert window.locator("#hover .thumb").count() == 1

    window.mouse.click(*position_of(window, chart, row))
    panel = window.locator(f"#{chart}-panel")
    assert names[row] in panel.inner_text()
    assert panel.locator("button").count() == 8
    nearest = window.evaluate(f"maps['{chart}'].neighbors[{row}][0]")
    panel.locator("button").first.focus()
    window.keyboard.press("Enter")
    assert window.locator(f"#{chart}-row").input_value() == str(nearest + 1)
    assert names[nearest] in panel.locator("p").inner_text()

    field = window.locator(f"#{chart}-row")
    field.fill("3")
    field.press("Enter")
    assert names[2] in panel.locator("p").inner_text()
    field.fill("9999")
    field.press("Enter")
    assert field.input_value() == str(len(names)), "the last there is"


def test_colors_by_label_or_cluster(page, opened):
    window = opened(page("simclr"))
    chart = window.evaluate("Object.keys(maps)[0]")
    window.locator(f"#{chart} input[type=radio]").nth(1).check()
    assert window.evaluate(f"views['{chart}'].signal('colored')") == "cluster"


def test_figures_have_words(page, opened):
    window = opened(page("simclr"))
    window.locator("summary").first.focus()
    window.keyboard.press("Enter")
    window.wait_for_function("[...document.querySelectorAll('.chart svg')].every(x => x.clientWidth > 100)")
    for figure in window.locator("figure:has(.chart)").all():
        assert figure.locator("figcaption").inner_text().strip()
        assert figure.locator(".chart").get_attribute("aria-label")
        assert figure.locator(".chart svg, .chart canvas").count() == 1
    assert all(image.get_attribute("alt") for image in window.locator("img").all())


@pytest.mark.parametrize("names", [["vae"], ["unfinished"], ["simclr", "vicreg", "vae", "ebgan", "npid"]])
def test_other_pages_open(page, opened, names):
    window = opened(page(*names))
    assert window.locator("section").count() >= 3
    assert window.evaluate("document.documentElement.scrollWidth") <= window.viewport_size["width"]
    assert window.evaluate("Object.keys(views).length") == window.locator(".chart").count()


def test_names_that_would_be_markup_are_found_and_shown(labeled, opened):
    window = opened(labeled)
    assert window.evaluate("document.documentElement.scrollWidth") <= window.viewport_size["width"]
    chart = window.evaluate("Object.keys(maps)[0]")
    field, hits = window.locator(f"#{chart}-search"), window.locator(f"#{chart}-hits button")
    field.fill("#17")
    assert hits.count() == 1
    hits.first.focus()
    window.keyboard.press("Enter")
    panel = window.locator(f"#{chart}-panel")
    assert f"birds/{MARKUP} #17.png" in panel.locator("p").inner_text()
    assert panel.locator("a").get_attribute("href").endswith("%2317.png")
    assert panel.locator("img").first.evaluate("image => image.naturalWidth") == 96
    field.fill("no such name")
    assert hits.count() == 0
    field.fill("")
    assert (
        window.evaluate(f"views['{chart}'].signal('chosen')[0]")
        == int(window.locator(f"#{chart}-row").input_value()) - 1
    )


def test_a_class_stands_out_and_galleries_lead_to_neighbors(labeled, opened):
    window = opened(labeled)
    chart = window.evaluate("Object.keys(maps)[0]")
    birds = window.locator(".legend button", has_text="birds (10)")
    birds.click()
    assert birds.get_attribute("aria-pressed") == "true"
    assert window.evaluate(f"views['{chart}'].signal('standout')") == "birds"
    birds.click()
    assert window.evaluate(f"views['{chart}'].signal('standout')") == ""
    galleries = window.locator(f"#{chart}-galleries")
    assert galleries.locator("h3").all_inner_texts() == ["Most unusual", "Most alike pairs", "Clusters"]
    assert all(button.get_attribute("aria-label") for button in galleries.locator("button").all())
    unusual = window.evaluate(f"maps['{chart}'].unusual[2]")
    galleries.locator("button").nth(2).click()
    assert window.locator(f"#{chart}-row").input_value() == str(unusual + 1)
