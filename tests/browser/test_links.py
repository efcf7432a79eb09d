"""Addresses that other commands print open what they promise; the view that is open stands in the bar on narrow screens
too.
"""

from __future__ import annotations

import json
from urllib.parse import quote

from seft_bench.checks.arms import Pair
from seft_bench.checks.shown import link
from seft_bench.results import read_results, slug
from tests.browser.browser import Page
from tests.browser.reports import EVIL, HOSTILE, Reported, working_in
from tests.integration.cli import seft_bench

NAMES = "[...document.querySelectorAll('main article.card h3')].map(each => each.textContent).join(' | ')"


def test_a_link_of_check_opens_the_question_with_the_two_that_were_checked(page: Page, report: Reported) -> None:
    with working_in(report.results.parent):
        seen = seft_bench("check", EVIL, "--against", "short", "--suite", "tiny-mtbench", "--report-only", "--json")
    metric = json.loads(seen.out)["metrics"][0]
    row = (metric["worst"] or metric["best"])[0]
    page.open(report.page, row["link"].removeprefix("report/index.html"))
    page.wait(f"document.querySelector('main').innerText.includes({json.dumps(row['question_id'])})")
    names = page.wait(NAMES)
    assert names.index("evil") < names.index("short")
    assert "good" not in names


def test_a_link_survives_names_and_ids_that_addresses_cannot_hold(report: Reported) -> None:
    of = {result.model: result for result in read_results(report.results) if result.suite == "tiny-mtbench"}
    address = link(Pair(of[EVIL], of["good"]), "50 % of a/b?models=x")
    assert address.isascii()
    assert address.count("?models=") == 1
    assert "/50%20%25%20of%20a%2Fb%3Fmodels%3Dx?" in address


def test_the_open_view_stands_in_the_bar_of_a_narrow_screen(page: Page, report: Reported) -> None:
    page.size(390, 844)
    page.open(report.page, "#/reviser")
    inside = (
        "(() => { const bar = document.querySelector('nav').getBoundingClientRect(), link = "
        "document.querySelector('nav [aria-current]')"
    )
    assert page.run(
        f"{inside}.getBoundingClientRect(); return link.left >= bar.left - 1 && link.right <= bar.right + 1; }})()"
    )


def test_a_cut_answer_says_its_own_length(page: Page, report: Reported) -> None:
    number = HOSTILE.index("x" * 60_000)
    page.open(
        report.page,
        f"#/questions/tiny-alpacaeval/{report.questions[number].id}?models="
        + quote(f"tiny-alpacaeval/{slug(EVIL)}@given@rubric-2a5ee038", safe="@/"),
    )
    said = page.wait("(document.querySelector('main article.card p.small') || {}).textContent")
    assert said.startswith(f"{len('x' * 60_000 + f' {number}'):,} characters, cut")
