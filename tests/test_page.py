"""The report's page in a real browser: drawn, quiet, narrow and dark, and without a network."""

import os
import re
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from report_files import full_page

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs the system's Chromium: no `chromium`"
)

DRAWN = "html[data-charts=drawn]"
PATIENCE = 120_000  # milliseconds: machines may be busy
CHARTS = 18  # drawings on the page of `full_page`
# Vega draws again after the window has changed.
FITS = """() => [...document.querySelectorAll(".drawing")].every(
  (drawing) => drawing.firstElementChild.scrollWidth <= drawing.clientWidth)"""
ALL_DRAWN = """() => [...document.querySelectorAll(".drawing")].every(
  (drawing) => drawing.querySelector("svg"))"""
COLOR = "element => getComputedStyle(element).{}"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    path = folder / "report.html"
    path.write_text(full_page(folder), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    # Chromium refuses its sandbox to root, as in most containers.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=arguments, timeout=PATIENCE)
        yield started
        started.close()


def open_sections(page: Any) -> None:
    for summary in page.locator("details.part:not([open]) > summary").all()[::-1]:
        summary.click()
    page.wait_for_function(ALL_DRAWN)


@pytest.fixture(scope="module")
def opened(browser: Any, file: Path) -> tuple[Any, list[str]]:
    """The page with its charts drawn, and what it said or asked for but itself."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    noises: list[str] = []
    page.on("console", lambda message: noises.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: noises.append(str(error)))
    page.on("request", lambda request: noises.append(request.url))
    page.goto(file.as_uri())
    page.wait_for_selector(DRAWN, state="attached")
    open_sections(page)
    return page, noises


@pytest.fixture
def page(opened: tuple[Any, list[str]], file: Path) -> Iterator[Any]:
    """The page on a wide and light screen; fails where it ever spoke or asked for more."""
    page, noises = opened
    page.set_viewport_size({"width": 1200, "height": 800})
    page.emulate_media(media="screen", color_scheme="light")
    yield page
    allowed = ("data:", file.as_uri())
    assert [noise for noise in noises if not noise.startswith(allowed)] == []


def luminance(color: str) -> float:
    """Of rgb(r, g, b), as WCAG 2 defines it."""
    channels = [int(number) / 255 for number in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    dark, light = sorted((luminance(first), luminance(second)))
    return (light + 0.05) / (dark + 0.05)


def test_every_chart_is_drawn(page: Any) -> None:
    drawings = page.locator(".drawing")
    assert drawings.count() == CHARTS
    for drawing in drawings.all():
        marks = drawing.locator("svg .role-mark path, svg .role-mark line, svg .role-mark text")
        assert marks.count() > 1
        assert drawing.get_attribute("role") == "img"
        assert re.search(r"mlp|cnn|networks|layer|Speed-up", drawing.get_attribute("aria-label"))
        assert "NaN" not in drawing.inner_html()


@pytest.mark.parametrize("width", [320, 375, 800])
def test_a_narrow_page_does_not_scroll_sideways(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.wait_for_function(FITS)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for drawing in page.locator(".drawing svg").all():
        assert drawing.bounding_box()["width"] <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_charts_stand_out_in_light_and_dark(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    background = page.locator("body").evaluate(COLOR.format("backgroundColor"))
    assert (luminance(background) < 0.1) == (scheme == "dark")
    axis = page.locator(".drawing .role-axis-label text").first
    for text in (
        page.locator("h1"),
        page.locator(".about").first,
        page.locator("figcaption").first,
    ):
        assert contrast(text.evaluate(COLOR.format("color")), background) >= 4.5
    assert contrast(axis.evaluate(COLOR.format("fill")), background) >= 4.5
    for symbol in page.locator(".key .symbol").all():
        assert contrast(symbol.evaluate(COLOR.format("fill")), background) >= 3


def test_paper_is_light_whatever_the_screen(page: Any) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    assert luminance(page.locator("body").evaluate(COLOR.format("backgroundColor"))) > 0.9
    assert (
        luminance(
            page.locator(".drawing .role-axis-label text").first.evaluate(COLOR.format("fill"))
        )
        < 0.1
    )
    assert not page.locator("nav").is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_tables_open_one_by_one_and_all_together(page: Any) -> None:
    tables = page.locator("details.data table")
    assert not any(table.is_visible() for table in tables.all())
    page.locator("details.data summary").first.click()
    assert tables.first.is_visible()
    button = page.get_by_role("button", name="Open everything")
    button.click()
    assert all(table.is_visible() for table in tables.all())
    page.get_by_role("button", name="Close everything").click()
    assert not any(table.is_visible() for table in tables.all())
    open_sections(page)
    page.locator("details.data[open]").evaluate_all("all => all.forEach(e => e.open = false)")


def test_sections_open_and_a_link_to_one_opens_it(browser: Any, file: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.set_default_timeout(PATIENCE)
    page.goto(file.as_uri())
    page.wait_for_selector(DRAWN, state="attached")
    height = "document.documentElement.scrollHeight"
    closed = page.evaluate(height)
    first, *others = page.locator("details.part").all()
    assert first.get_attribute("open") is not None
    assert not any(other.get_attribute("open") is not None for other in others)
    page.locator("nav a[href='#speed']").click()
    page.locator("#speed .drawing svg").first.wait_for()
    page.goto(f"{file.as_uri()}#method")
    page.reload()
    assert page.locator("#method pre").is_visible()
    open_sections(page)
    assert page.locator(".hint").locator("visible=true").count()
    assert closed < page.evaluate(height) / 2
    page.close()


def test_a_chosen_matrix_replaces_the_one_shown(page: Any) -> None:
    figure = page.locator("#classes figure").first
    before = figure.locator(".drawing").inner_html()
    figure.get_by_label("Shown:").select_option(label="mlp, PTQ")
    page.wait_for_function(
        "() => document.querySelector('#classes .drawing').ariaLabel.includes('mlp PTQ')"
    )
    page.wait_for_function(
        "before => document.querySelector('#classes .drawing').innerHTML !== before", arg=before
    )
    assert figure.locator("svg").count() == 1


def test_a_tooltip_says_what_a_point_is(page: Any) -> None:
    page.locator("#speed .drawing .mark-rect path").first.hover()
    tooltip = page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert "4.00×" in tooltip.inner_text()


def test_the_keyboard_reaches_everything(page: Any, file: Path) -> None:
    page.goto(file.as_uri())
    page.wait_for_selector(DRAWN, state="attached")
    page.evaluate("document.querySelectorAll('details.part').forEach(e => e.open = true)")
    page.wait_for_function(ALL_DRAWN)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the answer"
    page.keyboard.press("Enter")
    assert page.url.endswith("#answer")
    seen = set()
    for _ in range(150):
        page.keyboard.press("Tab")
        tag, outline = page.evaluate(
            "(e => [e.tagName, getComputedStyle(e).outlineStyle])(document.activeElement)"
        )
        assert outline != "none" or tag == "BODY"
        seen.add(tag)
    assert {"A", "BUTTON", "SELECT", "SUMMARY", "DIV", "PRE"} <= seen
    summary = page.locator("details.data summary").first
    summary.focus()
    page.keyboard.press("Enter")
    assert page.locator("details.data").first.get_attribute("open") is not None


def test_assistive_technology_finds_its_way(page: Any) -> None:
    for role in ("banner", "main", "navigation"):
        assert page.get_by_role(role).count() == 1
    levels = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    for link in page.locator("nav a").all():
        assert page.locator(link.get_attribute("href")).count() == 1
    for region in page.get_by_role("region").all():
        assert region.evaluate("e => e.ariaLabel || e.getAttribute('aria-labelledby')")


def test_without_scripts_the_numbers_are_still_there(browser: Any, file: Path) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.set_default_timeout(PATIENCE)
    page.goto(file.as_uri())
    assert "need JavaScript" in page.locator("noscript").inner_text()
    assert page.locator(".answer").is_visible()
    for summary in page.locator("details.part:not([open]) > summary").all()[::-1]:
        summary.click()
    page.locator("details.data summary").first.click()
    assert page.locator("details.data table").first.is_visible()
    page.close()
