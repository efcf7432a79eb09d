"""The page as a reader sees it: lines told apart, nothing cut without a sign, at every width, light and dark."""

from __future__ import annotations

import itertools
import re
from importlib.resources import files

import pytest

from tests.browser.browser import Page
from tests.browser.reports import Reported

LEGEND = "[...document.querySelectorAll('.legend .key')]"
EDGES = (
    "(() => {{ const list = document.querySelector({frame!r}).classList; return [list.contains('more-left'), "
    "list.contains('more-right')]; }})()"
)


# Curves


def test_controls_without_a_model_are_no_lines(page: Page, matrix_report: Reported) -> None:
    page.open(matrix_report.page, "#/curves")
    names = page.run(f"{LEGEND}.map((key) => key.textContent)")
    assert names[0] == "SFT (start), step 0"
    assert names[-3:] == [
        "own drafts",
        "SEFT, fewer prompts",
        "self-label",
    ]  # controls that were trained, after the methods
    assert not [name for name in names if "constant" in name or "copy" in name]
    dots = page.run("[...document.querySelectorAll('.dot[aria-label]')].map((dot) => dot.getAttribute('aria-label'))")
    assert not [dot for dot in dots if ", 0 steps" in dot and not dot.startswith("SFT (start)")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_differ_in_colour_and_in_marker(page: Page, matrix_report: Reported, scheme: str) -> None:
    page.prefer(scheme)
    page.open(matrix_report.page, "#/curves")
    colours = page.run(f"{LEGEND}.map((key) => getComputedStyle(key.querySelector('polyline')).stroke)")
    markers = page.run(f"{LEGEND}.map((key) => key.querySelector('.dot').innerHTML)")
    assert len(colours) == 9
    assert len(set(colours)) == 9
    assert len(set(markers[1:])) == 8  # the start has SEFT's circle, and is black


def test_many_lines_differ_in_colour_or_marker(page: Page, report: Reported) -> None:
    page.open(report.page)
    looks = page.run(
        "Array.from({ length: 40 }, (_, index) => { const look = seftBench.look(index); return look.colour + "
        "look.marker; })"
    )
    assert len(set(looks)) == 40


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_of_lines_stand_apart_from_each_other_and_from_the_page(scheme: str) -> None:
    css = files("seft_bench.report.site").joinpath("static", "site.css").read_text(encoding="utf-8")
    block = css[css.index(":root {" if scheme == "light" else ':root[data-theme="dark"] {') :].split("}")[0]
    colours = {name: _rgb(value) for name, value in re.findall(r"--(series-\d|paper): (#[0-9a-f]+)", block)}
    paper = colours.pop("paper")
    assert len(colours) == 9
    assert min(_contrast(colour, paper) for colour in colours.values()) >= 3  # WCAG 1.4.11
    assert min(_distance(first, second) for first, second in itertools.combinations(colours.values(), 2)) >= 20


def _rgb(text: str) -> tuple[float, ...]:
    """Linear red, green, blue in 0..1 of #rgb or #rrggbb."""
    digits = text[1:] if len(text) == 7 else "".join(2 * digit for digit in text[1:])
    shares = [int(digits[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    return tuple(share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares)


def _contrast(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """Contrast ratio of WCAG 2."""
    low, high = sorted(0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in (first, second))
    return (high + 0.05) / (low + 0.05)


def _distance(first: tuple[float, ...], second: tuple[float, ...]) -> float:
    """CIE 1976 difference in L*a*b*, white D65; about 2 is just seen."""
    return sum((one - two) ** 2 for one, two in zip(_lab(first), _lab(second), strict=True)) ** 0.5


def _lab(linear: tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = linear
    shares = (
        (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505,
        0.2126 * red + 0.7152 * green + 0.0722 * blue,
        (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089,
    )
    x, y, z = (share ** (1 / 3) if share > 0.008856 else 7.787 * share + 16 / 116 for share in shares)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


# Wide tables


def test_a_cut_edge_is_shown_and_follows_the_scrolling(page: Page, matrix_report: Reported) -> None:
    page.size(390, 800)
    page.open(matrix_report.page)
    edges = EDGES.format(frame="section.table .frame")
    assert page.wait(f"{edges}[1]")
    assert page.run(edges) == [False, True]
    assert page.run("getComputedStyle(document.querySelector('section.table .frame'), '::after').display") == "block"
    page.run("document.querySelector('section.table .scroller').focus()")
    page.press("ArrowRight")
    page.wait(f"{edges}[0]")
    page.run("document.querySelector('section.table .scroller').scrollLeft = 1e6; 0")
    page.wait(f"!{edges}[1]")
    assert page.run(edges) == [True, False]


def test_a_table_that_fits_has_no_sign(page: Page, matrix_report: Reported) -> None:
    page.open(matrix_report.page)
    page.run("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
    fits = (
        "[...document.querySelectorAll('section.table')].find((table) => table.textContent.startsWith('Leaderboard'))"
    )
    assert page.run(f"{fits}.querySelector('.frame').className") == "frame names-stay"


@pytest.mark.parametrize("view", ["leaderboard", "radar", "difference"])
def test_tables_fit_a_wide_screen(page: Page, report: Reported, view: str) -> None:
    page.open(report.page, f"#/{view}")
    page.wait("!!document.querySelector('section.table td')")
    assert page.run(
        "[...document.querySelectorAll('section.table:not([hidden]) .scroller')].every((box) => box.scrollWidth <= "
        "box.clientWidth)"
    )


def test_the_controls_say_decoding_and_judge_beside_their_names(page: Page, matrix_report: Reported) -> None:
    page.open(matrix_report.page)
    ranking = (
        "[...document.querySelectorAll('section.table')].find((table) => table.textContent.startsWith('Leaderboard'))"
    )
    heads = page.run(f"[...{ranking}.querySelectorAll('button.sort')].map((head) => head.dataset.key)")
    assert heads
    assert not {"suite", "decoding", "judge"} & set(heads)
    names = page.run(
        "[...document.querySelectorAll('section.table:not([hidden]) td.name')].map((cell) => cell.textContent)"
    )
    assert {"control:constant sampled, rubric-1", "control:constant greedy, rubric-1"} <= set(names)


def test_names_stay_in_sight_when_a_table_scrolls(page: Page, matrix_report: Reported) -> None:
    page.size(390, 800)
    page.open(matrix_report.page)
    page.run("document.querySelector('section.table .scroller').scrollLeft = 1e6; 0")
    place = "document.querySelector('section.table .scroller').getBoundingClientRect().left"
    assert page.run(
        f"Math.abs(document.querySelector('section.table td.name').getBoundingClientRect().left - {place}) <= 2"
    )


# Radar


@pytest.mark.parametrize("width", [1400, 390])
def test_names_of_categories_are_whole(page: Page, report: Reported, width: int) -> None:
    page.size(width, 900)
    page.open(report.page, "#/radar")
    page.wait("!!document.querySelector('.radar')")
    inside = (
        "(text) => { const box = text.getBoundingClientRect(); return box.left >= 0 && box.right <= "
        "document.documentElement.clientWidth; }"
    )
    assert page.run(f"[...document.querySelectorAll('.radar .label')].every({inside})")
    assert (
        page.run(
            "parseFloat(getComputedStyle(document.querySelector('.radar .label')).fontSize) * "
            "document.querySelector('.radar').getScreenCTM().a"
        )
        >= 9
    )


def test_every_ring_has_its_value_and_no_area_covers_the_lines(page: Page, report: Reported) -> None:
    page.open(report.page, "#/radar")
    page.wait("!!document.querySelector('.radar')")
    assert page.run("[...document.querySelectorAll('.radar .ring')].map((text) => text.textContent)") == [
        "2.5",
        "5",
        "7.5",
        "10",
    ]
    assert page.run(
        "[...document.querySelectorAll('.radar .area')].every((area) => getComputedStyle(area).fill === 'none')"
    )


def test_a_category_without_a_figure_leaves_a_gap(page: Page, report: Reported) -> None:
    page.open(report.page)
    change = "const item = seftBench.index.entries.find((item) => item.model === 'good' && item.categories.length > 3)"
    page.run(f"{change}; item.categories = item.categories.slice(1); 0")
    page.go("#/radar", "!!document.querySelector('.radar')")
    outlines = page.run("[...document.querySelectorAll('.radar .area')].map((area) => area.getAttribute('d'))")
    assert sum("Z" not in outline for outline in outlines) == 1


# Difference


def test_all_bars_of_differences_begin_at_one_line(page: Page, report: Reported) -> None:
    page.open(report.page, "#/difference/tiny-alpacaeval")
    page.wait("document.querySelectorAll('.gap-track').length > 5")
    for width in (1400, 390):
        page.size(width, 900)
        middles = page.run(
            "[...document.querySelectorAll('.gap-track')].map((track) => { const box = track.getBoundingClientRect(); "
            "return box.left + box.width / 2; })"
        )
        assert max(middles) - min(middles) < 1
