"""The report as its readers meet it: opened from a file in a real browser, by keyboard, in both colour schemes."""

import re

import cv2
import numpy as np
import pytest
from browser import chromium, opened
from report_run import HOSTILE, fake_params, report, write_run

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

# every piece of text that shows, with the colours it has once translucent layers lie on one another
TEXT_CONTRASTS = """() => {
  const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return [n[0], n[1], n[2], n[3] ?? 1]; };
  const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const light = color => color.slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = element => {
    if (!element) return [255, 255, 255, 1];
    const own = parse(getComputedStyle(element).backgroundColor);
    return own[3] === 1 ? own : over(own, ground(element.parentElement));
  };
  const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.textContent.trim();
    if (!text || !element.getClientRects().length || element.closest("title, desc")) continue;
    const style = getComputedStyle(element), below = ground(element);
    const ink = over(parse(element.closest("svg") ? style.fill : style.color), below);
    const [a, b] = [light(ink), light(below)].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), text.slice(0, 40)]);
  }
  return found;
}"""
# the confusion matrix of a random run has pale cells only
EVERY_SHADE = "document.querySelectorAll('.heat td').forEach((cell, i) => cell.className = `h${i % 11}`)"
FOCUSED = """() => {
  const element = document.activeElement;
  return element === document.body ? null : element.getAttribute("href") ?? element.getAttribute("aria-label");
}"""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_run(folder, fake_params(folds=1))
    report(folder, fake_params(folds=1))
    return folder / "out" / "index.html"


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


@pytest.fixture
def seen(browser, page_file):
    with opened(browser, page_file, viewport=DESKTOP) as shown:
        yield shown


def test_the_page_asks_for_nothing_and_complains_of_nothing(seen, page_file):
    asked = [url for url in seen.requests if not url.startswith("data:")]
    assert asked == [page_file.as_uri()]
    assert seen.complaints == []


def test_a_class_named_like_a_script_stays_a_name(seen):
    assert seen.dialogs == []
    assert seen.page.locator("script").count() == 0
    assert seen.page.get_by_text(HOSTILE, exact=True).count() > 3


def test_tab_reaches_the_skip_link_the_contents_and_every_box_that_scrolls(seen):
    reached = []
    for _ in range(200):
        seen.page.keyboard.press("Tab")
        here = seen.page.evaluate(FOCUSED)
        if here is None or (reached and here == reached[0]):
            break
        reached.append(here)
    contents = seen.page.eval_on_selector_all("nav a", "links => links.map(link => link.getAttribute('href'))")
    boxes = seen.page.eval_on_selector_all(".scroll", "boxes => boxes.map(box => box.getAttribute('aria-label'))")
    assert reached == ["#main", *contents, *boxes]
    assert len(contents) >= 10 and len(boxes) >= 10


def test_every_part_is_a_named_region_that_the_contents_lead_to(seen):
    page = seen.page
    contents = page.eval_on_selector_all("nav a", "links => links.map(link => link.getAttribute('href'))")
    sections = page.eval_on_selector_all("main section", "all => all.map(section => '#' + section.id)")
    assert contents == sections
    for target in contents:
        page.locator(f"nav a[href='{target}']").focus()
        page.keyboard.press("Enter")
        heading = page.locator(f"{target} h2")
        assert heading.count() == 1
        page.wait_for_function("id => document.querySelector(id).getBoundingClientRect().top < innerHeight", arg=target)
        assert page.get_by_role("region", name=heading.inner_text(), exact=True).count() >= 1
    assert page.get_by_role("main").count() == page.get_by_role("navigation", name="Contents").count() == 1


def test_every_picture_is_shown_and_says_what_it_shows(seen):
    pictures = seen.page.eval_on_selector_all("img", "all => all.map(one => [one.alt, one.naturalWidth])")
    assert len(pictures) > 20 and all(alt and width for alt, width in pictures)
    images = seen.page.get_by_role("img")
    assert images.count() == seen.page.get_by_role("img", name=re.compile(r"\S")).count()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(browser, page_file, scheme):
    with opened(browser, page_file, viewport=DESKTOP, color_scheme=scheme) as shown:
        shown.page.evaluate(EVERY_SHADE)
        contrasts = shown.page.evaluate(TEXT_CONTRASTS)
        ground = shown.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert len(contrasts) > 300
    assert [(ratio, text) for ratio, text in contrasts if ratio < 4.5] == []
    brightness = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
    assert brightness > 200 if scheme == "light" else brightness < 60


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_the_page_never_scrolls_sideways(browser, page_file, width):
    with opened(browser, page_file, viewport=PHONE | {"width": width}) as shown:
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_table_that_goes_on_beyond_its_box_has_a_shade_at_that_edge(browser, page_file, scheme):
    def edge(box) -> float:
        """How far the box's right edge is from the page's ground, in grey levels; the median leaves the text out."""
        picture = cv2.imdecode(np.frombuffer(box.screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE)
        return abs(float(np.median(picture[:, -3:-1])) - ground)

    with opened(browser, page_file, viewport=PHONE, color_scheme=scheme) as shown:
        color = shown.page.evaluate("getComputedStyle(document.body).backgroundColor")
        ground = float(np.mean([int(part) for part in re.findall(r"\d+", color)[:3]]))
        box = shown.page.locator("#candidates .scroll").first
        assert box.evaluate("box => box.scrollWidth > box.clientWidth + 20")
        assert edge(box) > 20
        box.evaluate("box => box.scrollTo(box.scrollWidth, 0)")
        assert edge(box) < 5, "at the end there is none"
        fitting = shown.page.locator("#parameters .scroll").first
        assert edge(fitting) < 5, "nor where all of it is seen"
