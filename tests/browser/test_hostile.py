"""Texts that a model, a judge or a server wrote: they run nothing, load nothing and hide nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from seft_bench.files import json_line
from seft_bench.records import Answer, Result, to_row
from seft_bench.report.site import write_report
from seft_bench.results import save_result
from tests.browser.browser import Page
from tests.browser.reports import EVIL, HOSTILE, Reported

VIEWS = ("leaderboard", "curves", "matrix", "radar", "difference", "questions", "reviser")


def hostile_models(page: Page) -> str:
    key = page.run(
        "seftBench.keyOf(seftBench.index.entries.findIndex((item) => item.suite === 0 && item.model === "
        f"{json.dumps(EVIL)}))"
    )
    other = page.run(
        "seftBench.keyOf(seftBench.index.entries.findIndex((item) => item.suite === 0 && item.model === 'short'))"
    )
    return f"?models={key},{other}"


def nothing_happened(page: Page, report: Path) -> None:
    """No script ran, no request left the report's folder, nothing was refused or thrown, no markup came from a text."""
    assert page.run("window.hacked === undefined && ({}).polluted === undefined")
    folder = report.parent.resolve().as_uri()
    assert [address for address in page.requests if not address.startswith((folder, "data:,"))] == []
    assert page.errors == []
    assert (
        page.run(
            "document.querySelectorAll('main script, img, iframe, object, embed, base, [onerror], [onload], main "
            'a:not([href^="#/"])\').length'
        )
        == 0
    )


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_answers_are_shown_as_they_are(page: Page, report: Reported, number: int) -> None:
    page.open(report.page, "#/questions/tiny-alpacaeval")
    question = report.questions[number]
    page.go(
        f"#/questions/tiny-alpacaeval/{question.id}{hostile_models(page)}",
        f"document.querySelector('.detail h1 code')?.textContent === {json.dumps(question.id)}",
    )
    page.run("for (const part of document.querySelectorAll('details')) part.open = true; 0")
    page.run("for (const more of document.querySelectorAll('.card > button.quiet')) more.click(); 0")
    text = page.run("document.querySelector('.card .answer').textContent")
    expected = f"{HOSTILE[number]} {number}".replace("\ud800", "")
    if len(expected) > 40_000:
        assert text.startswith("x" * 40_000)
        assert "cut here: 20,002 more characters" in text
    else:
        for raw, seen in {
            "\x1b": "\\x1b",
            "\x07": "\\x07",
            "\0": "\\x00",
            "\u202e": "\\u202e",
            "\u202c": "\\u202c",
            "\u200b": "\\u200b",
            "\u2028": "\\u2028",
            "\u2029": "\\u2029",
        }.items():
            expected = expected.replace(raw, seen)
        assert text == expected
    nothing_happened(page, report.page)


def test_no_view_runs_a_name_or_loads_anything(page: Page, report: Reported) -> None:
    page.open(report.page)
    for view in VIEWS:
        page.go(
            f"#/{view}",
            f"document.querySelector('main').className === 'view-{view}' && !!document.querySelector('main h1, .list "
            ".row')",
        )
        nothing_happened(page, report.page)


def test_the_address_bar_runs_nothing(page: Page, report: Reported) -> None:
    page.open(report.page, f"#/questions/tiny-alpacaeval/{HOSTILE[1]}")
    page.wait("document.querySelector('.detail').textContent.includes('There is no question')")
    page.go(f"#/{HOSTILE[0]}", "document.querySelector('h1').textContent === 'No such page'")
    page.go(
        "#/questions/__proto__/constructor?models=__proto__",
        "document.querySelector('main').textContent.includes('There is no suite __proto__')",
    )
    nothing_happened(page, report.page)


def test_the_page_refuses_scripts_of_others(page: Page, report: Reported) -> None:
    """The second wall: even where a defect of ours put markup into the page, it would not run."""
    page.open(report.page)
    markup = "document.querySelector('main').innerHTML = '<img src=x onerror=window.hacked=1>'"
    handler = (
        "const part = document.createElement('div'); document.body.append(part); part.setAttribute('onclick', "
        "'window.hacked = 1'); part.click()"
    )
    for attack in (markup, handler):
        assert (
            page.run(f"(() => {{ try {{ {attack}; return ''; }} catch (error) {{ return error.name; }} }})()")
            == "TypeError"
        )
    refused = page.run("fetch('data/index.js').then(() => 'fetched', () => 'refused')")
    assert (refused, page.run("window.hacked === undefined")) == ("refused", True)
    name = page.run("seftBench.need('../../evil').then(() => 'loaded', (error) => error.name)")
    assert name == "TypeError"


def test_lone_surrogates_and_odd_ids_reach_the_page(page: Page, tmp_path: Path) -> None:
    """A suite that we do not know, with ids that look like addresses, and texts that are no valid Unicode."""
    ids = ("a/b?c=d", "#x", "__proto__", "<b>", "100%", "ä ö")
    result = Result(
        "own",
        "m",
        {"win_rate": 50.0},
        len(ids),
        len(ids),
        0,
        1.0,
        False,
        "j",
        "given",
        per_question=dict.fromkeys(ids, 0.5),
        manifest={"parents": {"model": "0" * 8}},
    )
    save_result(tmp_path / "results", result)
    rows = [
        to_row(
            Answer("own", name, "m", ("lone SURROGATE end",), messages=({"role": "user", "content": f"asked {name}"},))
        )
        for name in ids
    ]
    place = tmp_path / "runs" / "evaluations" / "m-00000000" / "own" / "given"
    place.mkdir(parents=True)
    (place / "answers.jsonl").write_text(
        "".join(json_line(row) for row in rows).replace("SURROGATE", "\\ud800"), encoding="utf-8"
    )
    written = write_report(tmp_path / "report", tmp_path / "results", tmp_path / "runs")
    page.open(written.page, "#/questions/own")
    for name in ids:
        page.run(f"location.hash = seftBench.link('questions', ['own', {json.dumps(name)}]); 0")
        page.wait(f"document.querySelector('.asked')?.textContent === {json.dumps('asked ' + name)}")
        assert page.run("document.querySelector('.answer').textContent") == "lone \N{REPLACEMENT CHARACTER} end"
    page.open(written.page, "#/questions/own/a/b?c=d")  # as another program writes the link: nothing is encoded
    page.wait("document.querySelector('.asked')?.textContent === 'asked a/b?c=d'")
    nothing_happened(page, written.page)
