"""The report in a real browser: what is shown, sorted, filtered and reached by keys."""

from __future__ import annotations

import json
from typing import Any

from seft_bench.records import Result
from seft_bench.results import read_results
from tests.browser.browser import Page
from tests.browser.reports import EVIL, Reported

MODELS = (
    "[...document.querySelectorAll('section.table:not([hidden]) tbody:not(.withheld) tr:not(.block) "
    "td.name')].map((cell) => cell.textContent)"
)
FIRST_TABLE = "[...document.querySelector('section.table').querySelectorAll('td.name')].map((cell) => cell.textContent)"
SEEN_EVIL = EVIL.replace("\u202e", "\\u202e")


def result_of(report: Reported, suite: str, model: str) -> Result:
    return next(result for result in read_results(report.results) if (result.suite, result.model) == (suite, model))


def choose(page: Page, label: str, value: str) -> None:
    """Set the list box under a label, as a person's choice does."""
    found = (
        "[...document.querySelectorAll('label.field')].find((label) => label.firstChild.textContent === "
        f"{json.dumps(label)}).querySelector('select')"
    )
    page.run(
        f"(() => {{ const box = {found}; box.value = {json.dumps(value)}; box.dispatchEvent(new Event('change')); }})()"
    )


def count(page: Page) -> str:
    return str(page.run("document.querySelector('.side [role=status]').textContent"))


# Leaderboard


def test_a_click_on_a_head_sorts_and_says_so(page: Page, report: Reported) -> None:
    page.open(report.page)
    ranked = page.run(FIRST_TABLE)
    assert ranked[0] == "good"
    head = "document.querySelector('button.sort[data-key=avg_length]')"
    page.click(head)
    longest = page.run(FIRST_TABLE)
    assert longest[0] == SEEN_EVIL
    assert page.run(f"{head}.closest('th').ariaSort") == "descending"
    page.click(head)
    assert page.run(FIRST_TABLE) == longest[::-1]
    assert page.run(f"{head}.closest('th').ariaSort") == "ascending"
    page.click(head)
    assert page.run(FIRST_TABLE) == ranked


def test_the_keyboard_sorts_and_keeps_the_focus(page: Page, report: Reported) -> None:
    page.open(report.page)
    page.run("document.querySelector('button.sort[data-key=model]').focus()")
    page.press("Enter")
    assert page.run(FIRST_TABLE) == sorted(page.run(FIRST_TABLE), key=str.lower)
    assert page.run("document.activeElement.dataset.key") == "model"
    assert page.run("document.activeElement.closest('th').ariaSort") == "ascending"


def test_filters_leave_what_matches(page: Page, report: Reported) -> None:
    page.open(report.page)
    assert sorted(set(page.run(MODELS))) == sorted(["good", "short", SEEN_EVIL])
    page.press("/")
    for key in "SHORT":
        page.press(key)
    assert page.run(MODELS) == ["short", "short"]
    choose(page, "Suite", "tiny-mtbench")
    assert page.run(MODELS) == ["short"]


def test_figures_and_ranks_are_those_of_the_leaderboard(page: Page, report: Reported) -> None:
    from seft_bench.report.leaderboard import plain_tables

    page.open(report.page)
    [first, *_] = plain_tables(read_results(report.results))
    rates = [row.cells[[column.key for column in first.columns].index("win_rate")] for row in first.rows]
    cells = page.run(
        "[...document.querySelector('section.table').querySelectorAll('tbody tr:not(.block)')].map((row) => "
        "row.cells[3].textContent)"
    )
    assert cells == [f"{cell.value:.1f} [{cell.low:.1f}, {cell.high:.1f}]".replace("-", "\u2212") for cell in rates]


def test_withheld_rows_stand_apart_and_unranked(page: Page, report: Reported) -> None:
    page.open(report.page)
    apart = (
        "[...document.querySelectorAll('tbody.withheld tr:not(.block)')].map((row) => [row.cells[0].textContent, "
        "row.cells[1].textContent])"
    )
    assert page.run(apart) == [["withheld", "unfinished given, rubric-2a5ee038"]]  # what a heading says of ranked rows
    assert "unfinished" not in page.run(MODELS)


# Questions


def test_a_link_opens_its_question(page: Page, report: Reported) -> None:
    question = report.questions[7]
    page.open(report.page, f"#/questions/tiny-alpacaeval/{question.id}")
    page.wait("!!document.querySelector('.card')")
    assert page.run("document.querySelector('.detail h1 code').textContent") == question.id
    assert page.run("document.querySelector('.asked').textContent") == question.turns[0]
    assert page.run("document.querySelector('.pager').textContent").startswith("8 of 320")
    assert (
        page.run("document.querySelector('.row[aria-selected=true] .row-text').textContent") == question.turns[0][:300]
    )


def test_a_link_to_nothing_says_so(page: Page, report: Reported) -> None:
    page.open(report.page, "#/questions/tiny-alpacaeval/nothing-there")
    page.wait("document.querySelector('.detail').textContent.includes('There is no question nothing-there')")
    page.go(
        "#/questions/no-suite/1", "document.querySelector('main').textContent.includes('There is no suite no-suite')"
    )
    page.go("#/nowhere", "document.querySelector('main').textContent.includes('There is no view nowhere')")


def test_keys_move_through_list_and_questions(page: Page, report: Reported) -> None:
    page.open(report.page, "#/questions/tiny-alpacaeval")
    opened = "document.querySelector('.detail h1 code')?.textContent"
    page.press("j")
    page.press("j")
    page.press("Enter")
    page.wait(f"{opened} === {json.dumps(report.questions[1].id)}")
    page.press("ArrowRight")
    page.wait(f"{opened} === {json.dumps(report.questions[2].id)}")
    page.press("j")
    page.wait(f"{opened} === {json.dumps(report.questions[3].id)}")
    page.press("k")
    page.press("ArrowLeft")
    page.wait(f"{opened} === {json.dumps(report.questions[1].id)}")
    page.press("Escape")
    page.wait("!document.querySelector('.detail h1 code')")
    page.press("/")
    assert page.run("document.activeElement.type") == "search"
    page.press("Escape")
    page.press("?")
    assert page.run("document.getElementById('help').open") is True
    page.press("Escape")
    page.wait("!document.getElementById('help').open")
    page.press("3")
    page.wait("document.querySelector('h1').textContent === 'Win rates between models'")


def test_only_rows_in_sight_are_in_the_page(page: Page, report: Reported) -> None:
    page.open(report.page, "#/questions/tiny-alpacaeval")
    assert page.run("document.querySelectorAll('.list .row').length") < 40
    page.run("document.querySelector('.list').focus()")
    page.press("End")
    page.wait("document.querySelector('.row[aria-selected=true]')?.ariaPosInSet === '320'")
    assert page.run("document.querySelectorAll('.list .row').length") < 40


def _outcomes(report: Reported) -> tuple[int, int, int]:
    """Wins, losses and ties of "good" against "short"."""
    good, short = (result_of(report, "tiny-alpacaeval", model).per_question for model in ("good", "short"))
    gaps = [good[name] - short[name] for name in good if name in short]
    return sum(gap > 1e-9 for gap in gaps), sum(gap < -1e-9 for gap in gaps), sum(abs(gap) <= 1e-9 for gap in gaps)


def models_parameter(page: Page, *models: str) -> str:
    keys: list[Any] = [
        page.run(
            "seftBench.keyOf(seftBench.index.entries.findIndex((item) => item.suite === 0 && item.model === "
            f"{json.dumps(model)}))"
        )
        for model in models
    ]
    return "?models=" + ",".join(keys)


def test_outcomes_statuses_categories_and_words_filter(page: Page, report: Reported) -> None:
    page.open(report.page, "#/questions/tiny-alpacaeval")
    page.open(report.page, "#/questions/tiny-alpacaeval" + models_parameter(page, "good", "short"))
    wins, losses, ties = _outcomes(report)
    for outcome, expected in (
        ("wins", wins),
        ("losses", losses),
        ("ties", ties),
        ("apart", wins + losses + ties),
        ("all", 320),
    ):
        choose(page, "Outcome", outcome)
        assert count(page) == f"{expected} of 320 questions"
    choose(page, "Status", "parse_error")
    assert count(page) == "1 of 320 questions"
    choose(page, "Status", "")
    choose(page, "Category", "math")
    assert count(page) == f"{sum(question.category == 'math' for question in report.questions)} of 320 questions"
    choose(page, "Category", "")
    page.run(
        "(() => { const box = document.querySelector('input.search'); box.value = 'WRITE  code'; box.dispatchEvent(new "
        "Event('input')); })()"
    )
    texts = [
        f"{question.id} {question.category} {' / '.join(question.turns)[:300]}".lower() for question in report.questions
    ]
    assert count(page) == f"{sum('write' in text and 'code' in text for text in texts)} of 320 questions"


def test_answers_stand_side_by_side_with_their_verdicts(page: Page, report: Reported) -> None:
    page.open(report.page, "#/questions/tiny-alpacaeval")
    question = report.questions[0]
    page.open(report.page, f"#/questions/tiny-alpacaeval/{question.id}" + models_parameter(page, "good", "short"))
    page.wait("document.querySelectorAll('.card').length === 2")
    assert page.run("[...document.querySelectorAll('.card h3')].map((name) => name.textContent)") == ["good", "short"]
    assert page.run("[...document.querySelectorAll('.card .answer')].map((text) => text.textContent)") == [
        question.reference[0],
        "Ada.",
    ]
    assert page.run("[...document.querySelectorAll('.verdict .status')].map((status) => status.textContent)") == [
        "ok",
        "parse_error",
    ]
    assert page.run("document.querySelectorAll('.bar-row').length") == 3


def test_both_turns_of_a_conversation_are_shown(page: Page, report: Reported) -> None:
    page.open(report.page, "#/questions/tiny-mtbench")
    page.press("j")
    page.press("Enter")
    page.wait("document.querySelectorAll('.turn').length === 2")
    assert page.run(
        "[...document.querySelectorAll('.turn')].map((turn) => turn.querySelectorAll('.verdict').length > 0)"
    ) == [True, True]


# Comparisons


def test_the_difference_adds_up(page: Page, report: Reported) -> None:
    page.open(report.page, "#/questions/tiny-alpacaeval")
    page.open(report.page, "#/difference/tiny-alpacaeval" + models_parameter(page, "good", "short"))
    good, short = (result_of(report, "tiny-alpacaeval", model).per_question for model in ("good", "short"))
    gaps = [100 * (good[name] - short[name]) for name in good if name in short]
    assert page.run("document.querySelector('.summary strong').textContent") == f"{sum(gaps) / len(gaps):+.1f}"
    assert page.run(
        "[...document.querySelectorAll('section.table tbody tr:last-child td')].map((cell) => cell.textContent)"
    )[1] == str(len(gaps))
    assert page.run("document.querySelector('.list .row .row-figures').textContent").endswith(
        f"d {max(gaps, key=abs):+.1f}".replace("-", "\u2212")
    )


def test_the_matrix_counts_wins_and_ties(page: Page, report: Reported) -> None:
    page.open(report.page, "#/matrix")
    page.wait("!!document.querySelector('.heat td')")
    wins, losses, ties = _outcomes(report)
    names = page.run("[...document.querySelectorAll('.heat tbody th')].map((name) => name.textContent.slice(1))")
    text = page.run(
        "document.querySelectorAll('.heat tbody tr')"
        f"[{names.index('good')}].cells[{names.index('short') + 1}].ariaLabel"
    )
    share = 100 * (wins + ties / 2) / (wins + losses + ties)
    assert text == f"good against short: {share:.1f} % of {wins + losses + ties} questions"


def test_categories_are_drawn_and_tabled(page: Page, report: Reported) -> None:
    page.open(report.page, "#/radar")
    page.wait("!!document.querySelector('.radar')")
    chosen = page.run("[...document.querySelectorAll('.legend .key')].map((key) => key.textContent)")
    means = result_of(report, "tiny-mtbench", chosen[0]).metrics["by_category"]
    assert page.run("[...document.querySelectorAll('td.text + td')].map((cell) => cell.textContent)") == [
        f"{means[name]:.2f}" for name in sorted(means)
    ]
    assert page.run("document.querySelectorAll('.radar .area').length") == len(chosen)


# Results alone


def test_curves_have_every_checkpoint_with_its_interval(page: Page, matrix_report: Reported) -> None:
    page.open(matrix_report.page, "#/curves")
    assert page.errors == []
    assert (
        page.run("document.querySelectorAll('figure').length") == 8
    )  # two suites, two decodings, by step and by prompts
    labels = page.run(
        "[...document.querySelector('figure').querySelectorAll('.dot')].map((dot) => dot.getAttribute('aria-label'))"
    )
    assert len(labels) == 1 + 2 * 8  # the start, and two checkpoints of each other row
    page.run("document.querySelector('figure .dot').focus()")
    assert page.run("document.getElementById('tooltip').textContent") == labels[0]
    page.click("document.querySelectorAll('.key')[1]")
    assert page.run("document.querySelector('figure').querySelectorAll('.dot').length") == 1 + 2 * 7
    page.click("document.querySelector('.key')")  # without the start
    assert page.run("document.querySelector('figure').querySelectorAll('.dot').length") == 2 * 7


def test_without_runs_there_are_figures_and_no_texts(page: Page, matrix_report: Reported) -> None:
    page.open(matrix_report.page, "#/questions")
    page.press("j")
    page.press("Enter")
    page.wait(
        "document.querySelector('.card')?.textContent.includes('The answers of this model are not part of this "
        "report.')"
    )
    page.go("#/matrix", "!!document.querySelector('.heat td')")
    page.go("#/reviser", "document.querySelectorAll('section.table').length === 2")
    assert "+0.75" in page.run("document.querySelector('main').textContent")
    assert page.errors == []


# Looks


def test_dark_follows_the_system_and_the_switch(page: Page, report: Reported) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    page.open(report.page)
    light = page.run(background)
    page.prefer("dark")
    page.wait("document.documentElement.dataset.theme === 'dark'")
    assert page.run(background) != light
    page.click("document.getElementById('theme')")
    assert page.run(background) == light
    page.run("localStorage.removeItem('seft-bench-theme')")


def test_a_narrow_screen_has_no_sideways_scrolling(page: Page, report: Reported) -> None:
    page.size(390, 800)
    page.open(report.page)
    for view in ("leaderboard", "curves", "matrix", "radar", "difference", "questions", "reviser"):
        page.go(
            f"#/{view}",
            f"document.querySelector('main').className === 'view-{view}' && !!document.querySelector('main h1, .list "
            ".row')",
        )
        assert page.run("document.documentElement.scrollWidth") <= 390, view
    page.press("6")
    page.go("#/questions", "!!document.querySelector('.list .row')")
    page.click("document.querySelector('.list .row')")
    page.wait("!!document.querySelector('.card')")
    assert page.run("getComputedStyle(document.querySelector('.side')).display") == "none"
    page.click("document.querySelector('.back')")
    page.wait("getComputedStyle(document.querySelector('.side')).display !== 'none'")
