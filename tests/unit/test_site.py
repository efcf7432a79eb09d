"""The report's files: safe, stable, small, replaced in one step, and never in place of something else.

What a browser does with them: tests/browser.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from seft_bench.data.official import tinyworld_questions
from seft_bench.errors import InputError
from seft_bench.files import write_json, write_jsonl
from seft_bench.records import Answer, Judgment, Result, to_row
from seft_bench.report import paper_figures
from seft_bench.report.leaderboard import plain_tables
from seft_bench.report.site import files, write_report
from seft_bench.report.site.encode import clip, encode, rounded, to_javascript
from seft_bench.report.site.files import Parts
from seft_bench.report.site.model import entries
from seft_bench.results import read_results, save_result
from tests.unit.leaderboard_data import control, matrix, result

SUITE = "tiny-mtbench"


def delivered(path: Path) -> Any:
    """Read what a data file hands over, as the browser would."""
    text = path.read_text(encoding="utf-8")
    assert text.startswith("seftBench.deliver(")
    assert text.endswith(");\n")
    return json.loads("[" + text.removeprefix("seftBench.deliver(").removesuffix(");\n") + "]")[1]


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def one_model(
    folder: Path, model: str = "m", fingerprint: str = "12345678", answer: str = "yes", **changes: Any
) -> Result:
    """A result with its answers and verdicts, as the pipeline writes them."""
    questions = tinyworld_questions("mtbench")[:4]
    figures = {question.id: 5.0 for question in questions}
    found = Result(
        SUITE,
        model,
        {"score": 5.0},
        4,
        4,
        0,
        1.0,
        False,
        "judge-1",
        "sampled",
        per_question=figures,
        manifest={"parents": {"model": fingerprint}},
    )
    found = dataclasses.replace(found, **changes)
    place = folder / "runs" / "evaluations" / f"{model}-{fingerprint}" / SUITE / "sampled"
    write_jsonl(
        place / "answers.jsonl", [to_row(Answer(SUITE, question.id, model, (answer, answer))) for question in questions]
    )
    write_jsonl(place / "judgments-judge-1.jsonl", [to_row(verdict(question.id, model)) for question in questions])
    save_result(folder / "results", found)
    return found


def verdict(question: str, model: str, status: Any = "ok", turn: int = 1, raw: str = "[[5]]") -> Judgment:
    score = 5.0 if status == "ok" else None
    return Judgment(
        SUITE,
        question,
        model,
        turn,
        f"{question}/{turn}/grade",
        "h",
        "judge-1",
        "a",
        "b",
        "p",
        "single",
        status,
        score,
        raw=raw,
    )


# Encoding


@pytest.mark.parametrize(
    "text",
    [
        "</script><!--",
        "&lt;",
        "\u2028\u2029",
        "\ud800 lone",
        "\udfff\ud800",
        "é 漢 \U0001f600",
        "\x00\x1b\x7f\x9b",
        '"\\',
    ],
)
def test_texts_come_back_and_nothing_can_end_a_script(text: str) -> None:
    encoded = encode({"text": text})
    assert json.loads(encoded) == {"text": text}
    assert not set("<>&\u2028\u2029\x00\x1b\x7f\x9b") & set(encoded)
    encoded.encode()  # valid UTF-8


def test_names_are_texts_too() -> None:
    assert "</script>" not in to_javascript("</script>", ["</script>"])


def test_figures_are_short_and_never_not_a_number() -> None:
    assert [rounded(value) for value in (0.123456, 5.0, float("nan"), float("inf"), None, -0.00001)] == [
        0.1235,
        5,
        None,
        None,
        None,
        0,
    ]


def test_a_text_is_cut_and_says_by_how_much() -> None:
    assert clip("abc", 3) == "abc"
    assert clip("abcde", 3).startswith("abc\n[… cut here: 2 more characters")


# Files


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    one_model(tmp_path)
    for name in ("first", "second", "first"):
        write_report(tmp_path / name, tmp_path / "results", tmp_path / "runs")
    assert tree(tmp_path / "first") == tree(tmp_path / "second")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "results", "runs", "second"]  # no leftovers


def test_a_report_is_replaced_whole(tmp_path: Path) -> None:
    one_model(tmp_path, "a")
    one_model(tmp_path, "b", "87654321")
    written = write_report(tmp_path / "report", tmp_path / "results", tmp_path / "runs")
    assert (tmp_path / "report" / "data" / "answers" / "1-0.js").exists()
    one_model(tmp_path / "other")
    write_report(tmp_path / "report", tmp_path / "other" / "results", tmp_path / "other" / "runs")
    assert not (tmp_path / "report" / "data" / "answers" / "1-0.js").exists()
    assert written.page == tmp_path / "report" / "index.html"


def test_what_is_no_report_stays(tmp_path: Path) -> None:
    one_model(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("my own page")
    (tmp_path / "file").write_text("mine")
    for name in ("mine", "file", "results"):
        before = tree(tmp_path)
        with pytest.raises(InputError, match="Name another folder"):
            write_report(tmp_path / name, tmp_path / "results", tmp_path / "runs")
        assert tree(tmp_path) == before


def test_a_failure_under_way_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one_model(tmp_path)
    write_report(tmp_path / "report", tmp_path / "results", tmp_path / "runs")
    before = tree(tmp_path / "report")
    monkeypatch.setattr(Parts, "write", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(tmp_path / "report", tmp_path / "results", tmp_path / "runs")
    assert tree(tmp_path / "report") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report", "results", "runs"]


def test_rows_fill_files_and_none_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PART_BYTES", 60)
    rows = [[number, "x" * 20] for number in range(7)]
    starts = Parts(tmp_path).write_rows("answers/0", rows)
    parts = [delivered(tmp_path / "data" / "answers" / f"0-{part}.js") for part in range(len(starts))]
    assert starts == [0, 2, 4, 6]
    assert [row for part in parts for row in part] == rows


def test_answers_without_an_end_do_not_make_a_page_that_nobody_can_open(tmp_path: Path) -> None:
    one_model(tmp_path, answer="\u2028" * 3_000_000)
    written = write_report(tmp_path / "report", tmp_path / "results", tmp_path / "runs")
    assert written.largest[1] < 3_000_000


def test_no_results_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no results in .*--results"):
        write_report(tmp_path / "report", tmp_path / "results", tmp_path / "runs")
    one_model(tmp_path)
    with pytest.raises(InputError, match=r"no results in .*--against"):
        write_report(tmp_path / "report", tmp_path / "results", tmp_path / "runs", tmp_path / "nothing")


# What is in them


def index_of(tmp_path: Path, **options: Any) -> Any:
    write_report(tmp_path / "report", tmp_path / "results", tmp_path / "runs", **options)
    return delivered(tmp_path / "report" / "data" / "index.js")


def test_rows_of_the_leaderboard_lead_to_their_entries(tmp_path: Path) -> None:
    for result_ in matrix({"start": 5.0, "seft": 6.0}, seeds=(1,), questions=8):
        save_result(tmp_path / "results", result_)
    index = index_of(tmp_path)
    rows = [(table["columns"], row) for table in index["leaderboards"] for row in table["rows"]]
    named = [
        (row["cells"][[column["key"] for column in columns].index("model")][0], index["entries"][row["entry"]]["model"])
        for columns, row in rows
    ]
    assert len(named) == len(index["entries"]) == 16
    assert all(shown == found for shown, found in named)


def test_curves_come_from_published_figures_where_questions_are_not_at_hand(tmp_path: Path) -> None:
    made = [result("start", [5.0, 6.0, 7.0]), result("dpo", [7.0, 8.0, 9.0])]
    for found in made:
        save_result(tmp_path / "results", found)
    whole = index_of(tmp_path)["curves"]["panels"][0]
    for path in tmp_path.glob("results/*/*/questions.json"):
        path.unlink()
    bare = index_of(tmp_path)["curves"]["panels"][0]
    [line] = bare["lines"]
    metrics = made[1].metrics
    assert line["steps"] == [[150, 8, rounded(metrics["low"]), rounded(metrics["high"])]]
    assert [point[:2] for point in whole["lines"][0]["steps"]] == [[150, 8]]
    assert bare["start"]["point"][:2] == [0, 6]


def test_the_last_good_verdict_of_each_key_counts(tmp_path: Path) -> None:
    found = one_model(tmp_path)
    first, second, third, _ = found.per_question
    rows = [
        verdict(first, "m", raw="old"),
        verdict(first, "m", raw="new"),
        verdict(first, "m", "api_error"),
        verdict(second, "m", "refused"),
    ]
    [path] = tmp_path.glob("runs/evaluations/*/*/*/judgments-*.jsonl")
    write_jsonl(path, [to_row(row) for row in [*rows, verdict(third, "m"), verdict(third, "m", "parse_error", turn=2)]])
    index_of(tmp_path)
    texts = delivered(tmp_path / "report" / "data" / "answers" / "0-0.js")
    assert [row[3][0][5] for row in texts if row[0] == 0] == ["new"]
    [[_, figures, letters]] = delivered(tmp_path / "report" / "data" / "figures" / "0-0.js")
    assert letters[:5] == "orpom"  # ok, refused, the worst of a good and an unread verdict, ok, no figure
    assert figures[:5] == [5, 5, 5, 5, None]


def test_a_verdict_on_an_answer_that_has_changed_is_not_shown_as_good(tmp_path: Path) -> None:
    found = one_model(tmp_path)
    first = next(iter(found.per_question))
    [path] = tmp_path.glob("runs/evaluations/*/*/*/judgments-*.jsonl")
    write_jsonl(
        path,
        [to_row(dataclasses.replace(verdict(first, "m"), answer_hash="old")), to_row(verdict(first, "m", "api_error"))],
    )
    index_of(tmp_path)
    [row, *_] = delivered(tmp_path / "report" / "data" / "answers" / "0-0.js")
    assert [shown[2] for shown in row[3]] == ["api_error"]


def test_answers_are_those_of_the_very_weights_and_engine(tmp_path: Path) -> None:
    one_model(tmp_path, fingerprint="aaaaaaaa")
    found = one_model(tmp_path, fingerprint="bbbbbbbb")
    [entry] = entries([found], [], tmp_path / "runs")
    assert "m-bbbbbbbb" in str(entry.folder)
    served = dataclasses.replace(found, manifest={"parents": {"model": "bbbbbbbb"}, "config": {"engine": "vllm 1"}})
    assert entries([served], [], tmp_path / "runs")[0].folder is None
    unknown = dataclasses.replace(found, manifest={})
    assert entries([unknown], [], tmp_path / "runs")[0].folder is None  # two of this name: none is taken for it


def test_runs_of_a_matrix_are_found_below_its_folder(tmp_path: Path) -> None:
    found = one_model(tmp_path)
    (tmp_path / "deep").mkdir()
    (tmp_path / "runs").rename(tmp_path / "deep" / "tinyworld")
    assert entries([found], [], tmp_path / "deep")[0].folder is not None


def test_other_results_are_compared_and_not_ranked(tmp_path: Path) -> None:
    one_model(tmp_path)
    one_model(tmp_path / "base", metrics={"score": 9.0})
    index = index_of(tmp_path, against=tmp_path / "base" / "results")
    assert [entry["other"] for entry in index["entries"]] == [False, True]
    assert len({entry["key"] for entry in index["entries"]}) == 2
    assert sum(len(table["rows"]) for table in index["leaderboards"]) == 1


def test_a_protocol_that_we_do_not_know_has_no_row_and_breaks_nothing(tmp_path: Path) -> None:
    save_result(tmp_path / "results", one_model(tmp_path))
    save_result(
        tmp_path / "results", Result("odd", "m", {"elo": 1000}, 1, 1, 0, 1.0, False, "j", per_question={"q": 1.0})
    )
    index = index_of(tmp_path)
    assert [suite["measure"] and suite["measure"]["key"] for suite in index["suites"]] == [None, "score"]
    assert len(index["leaderboards"]) == 1


def test_diagnostics_of_cells_become_tables(tmp_path: Path) -> None:
    one_model(tmp_path)
    summary = {"judge": "rubric", "drafts": 10, "keep_rate": 0.5, "copy_rate": None, "edit_distance": None}
    said = {
        "labels": {"label_counts": {"no_revise": 2}},
        "cal": {"calibration": {"threshold": -0.5, "good_kept": 0.9}},
        "revised-1": {"diagnostics": summary},
    }
    write_json(tmp_path / "results" / "cells" / "seft-seed0" / "diagnostics.json", said)
    tables = index_of(tmp_path)["reviser"]
    assert [table["title"] for table in tables] == [
        "Run by run",
        "Calibration of the decision",
        "Labels that the reviser learnt from",
    ]
    assert tables[0]["rows"][0]["cells"][:6] == [["seft-seed0"], ["revised-1"], ["rubric"], [10], [50], [None]]


def test_curves_are_of_trained_rows_methods_before_controls(tmp_path: Path) -> None:
    for found in [
        *matrix({"start": 5.0, "own-drafts": 5.0, "seft": 6.0}, seeds=(1,), questions=10),
        control("constant", [1.0] * 10),
    ]:
        save_result(tmp_path / "results", found)
    for panel in index_of(tmp_path)["curves"]["panels"]:
        assert [line["row"] for line in panel["lines"]] == ["seft", "own-drafts"]


# Figures for papers


def test_controls_stand_at_the_foot_of_their_own_panel(tmp_path: Path) -> None:
    for decoding in ("sampled", "greedy"):
        save_result(tmp_path / "results", result("seft", [7.0, 8.0], decoding=decoding))
        save_result(tmp_path / "results", control("constant", [2.0, 3.0], decoding))
    written = paper_figures.write_figures(tmp_path / "figures", tmp_path / "results")
    assert {path.stem for path in written if path.stem.startswith("bars-")} == {
        "bars-tiny-mtbench-sampled",
        "bars-tiny-mtbench-greedy",
    }
    pictures = paper_figures._pictures(plain_tables(read_results(tmp_path / "results"))[0])
    assert {panel[1]: [len(rows) for rows in rest] for panel, (_, *rest) in pictures.items()} == {
        "sampled": [1, 1],
        "greedy": [1, 1],
    }


def test_controls_alone_have_bars_and_no_curves(tmp_path: Path) -> None:
    save_result(tmp_path / "results", control("constant", [2.0, 3.0]))
    written = paper_figures.write_figures(tmp_path / "figures", tmp_path / "results")
    assert {path.stem for path in written} == {"bars-tiny-mtbench-sampled"}


def test_figures_for_papers_are_the_same_every_time(tmp_path: Path) -> None:
    for found in [
        result("start", [5.0, 6.0]),
        result("seft", [7.0, 8.0]),
        result("seft", [0.5, 0.75], suite="tiny-alpacaeval"),
    ]:
        save_result(tmp_path / "results", found)
    first, second = (paper_figures.write_figures(tmp_path / name, tmp_path / "results") for name in ("a", "b"))
    names = sorted(path.name for path in first)
    assert {"curves.pdf", "curves.png", "cost.pdf", "cost.png"} <= set(names)
    assert {"bars-tiny-mtbench-sampled.pdf", "bars-tiny-alpacaeval-sampled.png"} <= set(names)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_what_is_shown_as_equal_is_a_tie_in_the_matrix(tmp_path: Path) -> None:
    questions = [question.id for question in tinyworld_questions("mtbench")[:4]]
    for model, figures in {"a": (5.00001, 7, 3, 2), "b": (5.0, 6, 3, 4)}.items():
        one_model(tmp_path, model, per_question=dict(zip(questions, figures, strict=True)))
    index_of(tmp_path)
    matrix_file = delivered(tmp_path / "report" / "data" / "matrix" / "0.js")
    assert matrix_file == {"entries": [0, 1], "shares": [[0.5, 0.5], [0.5, 0.5]], "questions": 4}
