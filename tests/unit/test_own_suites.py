"""Question sets of the user's own: what the files may hold, what is refused, and what is scored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seft_bench.errors import InputError
from seft_bench.evaluation.score_files import score_files
from seft_bench.evaluation_files import Places, evaluation_files
from seft_bench.generators.controls import ControlGenerator
from seft_bench.records import instruction_id
from seft_bench.subjects import Subject
from seft_bench.suites import load_suite
from tests.faults.chat_server import serving
from tests.integration.cli import seft_bench

INSTRUCTIONS = [f"Question number {index}?" for index in range(20)]
HEAD = "default_judge: rubric\nmax_new_tokens: 8\ndecodings: {greedy: {temperature: 0}}\ndescription: mine\n"


def save(path: Path, value: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in value) if path.suffix == ".jsonl" else json.dumps(value))
    return path


def pairwise(folder: Path, extra: str = "", rows: list[dict[str, Any]] | None = None) -> str:
    """A pairwise suite in `folder`; without `rows`, twenty questions with the baseline's answers."""
    save(
        folder / "questions.json",
        rows or [{"instruction": text, "output": "b" * (5 + index)} for index, text in enumerate(INSTRUCTIONS)],
    )
    (folder / "mine.yaml").write_text(
        f"name: mine\nkind: alpacaeval\nsource: files\nquestions: questions.json\n{HEAD}{extra}"
    )
    return str(folder / "mine.yaml")


def conversations(folder: Path, rows: list[dict[str, Any]]) -> str:
    save(folder / "talks.jsonl", rows)
    (folder / "talks.yaml").write_text(f"name: talks\nkind: mtbench\nsource: files\nquestions: talks.jsonl\n{HEAD}")
    return str(folder / "talks.yaml")


def annotations(folder: Path, model: str = "m", shift: int = 0) -> Path:
    """Judgments in alpaca_eval's format: the model wins the more, the higher a question's number."""
    rows = [
        {
            "instruction": text,
            "output_1": "b" * (5 + index),
            "output_2": "m" * (3 + (index * 7 + shift) % 11),
            "generator_2": model,
            "preference": 1.05 + 0.04 * index + 0.02 * (shift % 5),
        }
        for index, text in enumerate(INSTRUCTIONS)
    ]
    return save(folder / f"{model}.json", rows)


def refused(suite: str) -> str:
    with pytest.raises(InputError) as caught:
        load_suite(suite).questions()
    return str(caught.value)


def test_questions_beside_their_yaml_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = pairwise(tmp_path)
    monkeypatch.chdir("/")
    questions = load_suite(suite).questions()
    assert [question.turns for question in questions] == [(text,) for text in INSTRUCTIONS]
    assert questions[3].reference == ("b" * 8,)
    assert questions[3].id == instruction_id(INSTRUCTIONS[3])


def test_baseline_from_a_file_of_answers(tmp_path: Path) -> None:
    suite = pairwise(tmp_path, "baseline: base.json\n", [{"instruction": text} for text in INSTRUCTIONS])
    save(
        tmp_path / "base.json",
        [{"instruction": text, "output": text.upper(), "generator": "base"} for text in reversed(INSTRUCTIONS)],
    )
    assert [question.reference for question in load_suite(suite).questions()] == [
        (text.upper(),) for text in INSTRUCTIONS
    ]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    suite = load_suite(pairwise(tmp_path))
    assert len(suite.questions()) == 20
    save(tmp_path / "questions.json", [{"instruction": "Only one?", "output": "yes"}])
    assert [question.turns[0] for question in suite.questions()] == ["Only one?"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"instruction": "A?", "output": "a"}, {"instruction": "A?", "output": "b"}],
            "1 instructions stand there more than once, e.g. 'A?'",
        ),
        (
            [{"instruction": "A?", "output": "a"}, {"instruction": "B?"}],
            "1 of 2 questions have no baseline's answer in `output`, e.g. 'B?'",
        ),
        ([{"output": "a"}], "index 0: instruction must be a text that is not empty; the row has output"),
        ([{"instruction": " ", "output": "a"}], "instruction must be a text"),
        (["A?"], "index 0: a JSON object is expected"),
    ],
)
def test_broken_pairwise_questions(tmp_path: Path, rows: list[Any], message: str) -> None:
    assert message in refused(pairwise(tmp_path, rows=rows))


def test_baseline_that_lacks_answers_or_holds_two_models(tmp_path: Path) -> None:
    suite = pairwise(tmp_path, "baseline: base.json\n")
    save(
        tmp_path / "base.json",
        [{"instruction": text, "output": "x", "generator": "base"} for text in INSTRUCTIONS[:15]],
    )
    assert f"lacks the baseline's answers to 5 of 20 questions, e.g. {INSTRUCTIONS[15]!r}" in refused(suite)
    save(
        tmp_path / "base.json",
        [
            {"instruction": text, "output": "x", "generator": f"base{index % 2}"}
            for index, text in enumerate(INSTRUCTIONS)
        ],
    )
    assert "answers of 2 models (base0, base1)" in refused(suite)
    rows = [{"instruction": text, "output": "x", "generator": "base"} for text in INSTRUCTIONS]
    save(tmp_path / "base.json", [*rows[1:], rows[0] | {"output": "$ERROR$"}])  # the mark of a failed call
    assert "lacks the baseline's answers to 1 of 20 questions" in refused(suite)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("source: official\n", "questions: for source files only, this suite's source is official"),
        ("kind: mtbench\nlc_c: 3\n", "lc_c: for kind alpacaeval only, this suite's kind is mtbench"),
        ("questions: null\n", "questions: is missing"),
        ("lc_c: -1\n", "lc_c: a positive number or cross-validated is expected (got -1)"),
        ("lc_c: .inf\n", "a positive number or cross-validated"),
        ("lc_interval: jackknife\n", "lc_interval: Input should be 'sandwich' or 'bootstrap'"),
    ],
)
def test_keys_that_do_not_fit(tmp_path: Path, extra: str, message: str) -> None:
    key = extra.partition(":")[0]
    suite = pairwise(tmp_path)
    lines = [line for line in Path(suite).read_text().splitlines() if line.partition(":")[0] != key]
    Path(suite).write_text("\n".join(lines) + "\n" + extra)
    assert message in refused(suite)


def test_without_difficulties_there_is_only_the_plain_win_rate(tmp_path: Path) -> None:
    [result] = score_files(pairwise(tmp_path), None, annotations(tmp_path))
    assert result.metrics["win_rate"] == pytest.approx(100 * (0.05 + 0.04 * 9.5))
    assert result.metrics["lc_win_rate"] is None
    assert any("plain win rate only" in note for note in result.notes)
    assert any("questions.json (sha256 " in note for note in result.notes)


def test_judgments_of_other_questions_are_counted_and_left_out(tmp_path: Path) -> None:
    path = annotations(tmp_path)
    rows = json.loads(path.read_text())
    [alone] = score_files(pairwise(tmp_path), None, path)
    save(path, [*rows, rows[0] | {"instruction": "Not among them?"}])
    [result] = score_files(pairwise(tmp_path), None, path)
    assert result.metrics == alone.metrics
    assert set(result.notes) - set(alone.notes) == {
        "1 rows judge questions that mine does not have; they are left out."
    }


def test_a_table_comes_with_its_notes(tmp_path: Path) -> None:
    """What is true of one model only names it; what is true of all is said once."""
    both = [
        *json.loads(annotations(tmp_path, "a").read_text()),
        *json.loads(annotations(tmp_path, "b", 3).read_text())[:-1],
    ]
    seen = seft_bench("score", "--suite", pairwise(tmp_path), "--judgments", str(save(tmp_path / "both.json", both)))
    assert "own questions without difficulties" in seen.err
    assert seen.err.count("own questions without difficulties") == 1
    assert "b (mine, given): 1 of 20 judgments are unscored (1 missing)" in seen.err
    assert "a (mine, given)" not in seen.err


def test_zero_difficulties_are_said(tmp_path: Path) -> None:
    [result] = score_files(pairwise(tmp_path, "difficulty: zero\n"), None, annotations(tmp_path))
    assert result.metrics["lc_low"] < result.metrics["lc_win_rate"] < result.metrics["lc_high"]
    assert any("difficulty set to 0" in note for note in result.notes)
    assert not any("row position" in note or "df_gamed" in note or "extrapolation" in note for note in result.notes)


def test_answers_that_are_nearly_all_shorter_are_an_extrapolation(tmp_path: Path) -> None:
    rows = [{"instruction": text, "output": "b" * (50 + index)} for index, text in enumerate(INSTRUCTIONS)]
    suite = pairwise(tmp_path, "difficulty: zero\n", rows)
    judged = json.loads(annotations(tmp_path).read_text())
    save(
        tmp_path / "m.json",
        [row | {"output_1": question["output"]} for row, question in zip(judged, rows, strict=True)],
    )
    [result] = score_files(suite, None, tmp_path / "m.json")
    assert any("100 % of the answers are shorter than the baseline's" in note for note in result.notes)


def test_difficulties_fitted_to_own_questions_are_used(tmp_path: Path) -> None:
    suite = pairwise(tmp_path, "difficulty: difficulty.json\n")
    files = [annotations(tmp_path, model, shift) for model, shift in (("a", 0), ("b", 3))]
    done = seft_bench(
        "suites",
        "difficulty",
        suite,
        *(f"--judgments={path}" for path in files),
        "--out",
        str(tmp_path / "difficulty.json"),
    )
    assert (done.status, done.out.strip()) == (0, str(tmp_path / "difficulty.json"))
    assert "20 difficulties from 40 judgments of 2 models: a, b" in done.err
    values = json.loads((tmp_path / "difficulty.json").read_text())["difficulties"]
    assert sum(values.values()) == pytest.approx(0, abs=1e-9)
    assert (
        values[INSTRUCTIONS[19]] > values[INSTRUCTIONS[10]] > values[INSTRUCTIONS[0]]
    )  # models win more often on the later ones
    [with_difficulty] = score_files(suite, None, files[0])
    [without] = score_files(pairwise(tmp_path, "difficulty: zero\n"), None, files[0])
    assert with_difficulty.metrics["lc_se"] != without.metrics["lc_se"]
    assert any("difficulties fitted to these questions" in note for note in with_difficulty.notes)


def test_difficulties_of_other_instructions_are_refused_before_anything_runs(tmp_path: Path) -> None:
    suite = pairwise(tmp_path, "difficulty: difficulty.json\n")
    save(tmp_path / "difficulty.json", {"difficulties": dict.fromkeys([*INSTRUCTIONS[:18], "Other?"], 0.5)})
    message = refused(suite)
    assert "18 of the 20 questions of mine and of 1 other instructions" in message
    assert repr(INSTRUCTIONS[18]) in message


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.csv", "index,instruction_difficulty\n0,0\n"),
        ("d.json", "[1, 2]"),
        ("d.json", '{"difficulties": {"A?": "hard"}}'),
        ("d.json", '{"difficulties": {}}'),
    ],
)
def test_other_files_are_no_difficulties(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    assert "difficulties" in refused(pairwise(tmp_path, f"difficulty: {name}\n"))


def test_one_model_is_too_few_for_difficulties(tmp_path: Path) -> None:
    done = seft_bench(
        "suites",
        "difficulty",
        pairwise(tmp_path),
        "--judgments",
        str(annotations(tmp_path)),
        "--out",
        str(tmp_path / "d.json"),
    )
    assert done.status == 2
    assert "at least two models" in done.err
    assert not (tmp_path / "d.json").exists()


def test_identical_texts_need_no_judge_in_own_suites(tmp_path: Path) -> None:
    suite = load_suite(pairwise(tmp_path, "difficulty: zero\nlc_c: cross-validated\nlc_interval: bootstrap\n"))
    questions = suite.questions()
    from seft_bench.records import Answer

    answers = {question.id: Answer("mine", question.id, "itself", question.reference) for question in questions}
    result = suite.score("itself", questions, answers, [])
    assert (
        result.metrics["win_rate"],
        result.metrics["lc_win_rate"],
        result.metrics["lc_low"],
        result.metrics["lc_high"],
    ) == (50.0, 50.0, 50.0, 50.0)
    assert result.metrics["lc_c"] is None
    assert any("50 by definition" in note for note in result.notes)


def test_too_few_rows_to_choose_c(tmp_path: Path) -> None:
    rows = [{"instruction": text, "output": "b" * (5 + index)} for index, text in enumerate(INSTRUCTIONS[:8])]
    [result] = score_files(
        pairwise(tmp_path, "difficulty: zero\n", rows),
        None,
        annotations(tmp_path),
        length_control={"lc_c": "cross-validated"},
    )
    assert result.metrics["lc_win_rate"] is None
    assert any("to choose C" in note for note in result.notes)


def test_conversations(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "turns": ["1+1?", "And 2+2?"], "category": "math", "reference": ["2", "4"]},
        {"question_id": 7, "turns": ["Hello?"]},
    ]
    first, second = load_suite(conversations(tmp_path, rows)).questions()
    assert (first.id, first.category, first.turns, first.reference) == ("a", "math", ("1+1?", "And 2+2?"), ("2", "4"))
    assert (second.id, second.category, second.turns, second.reference) == ("7", "", ("Hello?",), ())


def test_own_conversations_are_scored(tmp_path: Path) -> None:
    suite = conversations(tmp_path, [{"id": 1, "turns": ["A?", "B?"], "category": "chat"}, {"id": 2, "turns": ["C?"]}])
    rows = [
        {"question_id": 1, "model": "m", "judge": ["j"], "judgment": "", "score": score, "turn": turn}
        for turn, score in ((1, 6), (2, 8))
    ]
    save(tmp_path / "judged.jsonl", [*rows, rows[0] | {"question_id": 2, "score": 4}])
    [result] = score_files(suite, None, tmp_path / "judged.jsonl")
    assert (result.n, result.metrics["score"], result.metrics["turn_1"], result.metrics["turn_2"]) == (3, 6.0, 5.0, 8.0)
    assert result.metrics["by_category"] == {"chat": 7.0}
    assert any("talks.jsonl" in note for note in result.notes)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"turns": ["A?"]}, "id (or question_id) must be"),
        ({"id": 1, "turns": ["A?", "B?", "C?"]}, "one or two texts"),
        ({"id": 1, "turns": []}, "one or two texts"),
        ({"id": 1, "turns": "A?"}, "turns must be a list"),
        (
            {"id": 1, "turns": ["A?", "B?"], "category": "math", "reference": ["a"]},
            "one text a turn; there are 1 for 2",
        ),
        (
            {"id": 1, "turns": ["A?"], "category": "poems", "reference": ["a"]},
            "math, reasoning, coding only, and this question's is 'poems'",
        ),
        ({"id": "0", "turns": ["A?"]}, "1 ids stand there more than once"),
    ],
)
def test_broken_conversations(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    assert message in refused(conversations(tmp_path, [{"id": 0, "turns": ["fine?"]}, row]))


def test_an_edited_conversation_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    """Ids survive an edit, so answers to the old text must not stand for the new one."""
    places = Places(tmp_path, tmp_path, tmp_path / "store")
    subject = Subject("m", "f" * 64, lambda: ControlGenerator("constant"))
    folders = []
    for text in ("A?", "B?", "A?"):
        suite = load_suite(conversations(tmp_path, [{"id": 1, "turns": [text]}]))
        folders.append([files.folder for files in evaluation_files(subject, suite, places)])
    assert folders[0] == folders[2] != folders[1]


def test_the_tinyworlds_rubric_does_not_judge_own_questions(tmp_path: Path) -> None:
    save(tmp_path / "answers.json", [{"instruction": text, "output": "x", "generator": "m"} for text in INSTRUCTIONS])
    seen = seft_bench("eval", str(tmp_path / "answers.json"), "--suite", pairwise(tmp_path))
    assert seen.status == 2
    assert "grades the tinyworld only" in seen.err


@pytest.mark.parametrize("name", ["mtbench", "alpacaeval", "tiny-mtbench"])
def test_what_suites_show_prints_is_a_suite(tmp_path: Path, name: str) -> None:
    (tmp_path / "copy.yaml").write_text(seft_bench("suites", "show", name).out)
    assert load_suite(str(tmp_path / "copy.yaml")).config.model_dump() == load_suite(name).config.model_dump()


@pytest.fixture
def judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A judge behind a real server that grades 7, or prefers the first token named m."""
    monkeypatch.chdir(tmp_path)
    with serving() as server:
        (tmp_path / "judge.yaml").write_text(
            f"name: small\nkind: openai\nmodel: judge\nbase_url: {server.url}\napi_key_env: null\ntemplates: "
            "seft-bench\nmax_attempts: 1\n"
        )
        yield "judge.yaml"


def test_evaluation_of_own_pairs(tmp_path: Path, judge: str) -> None:
    """One answer is the baseline's own text: a draw, and nobody is asked.

    Both judgments files then fit the difficulties.
    """
    for model in ("one", "two"):
        rows = [
            {"instruction": text, "output": "b" * 5 if index == 0 else model * index, "generator": model}
            for index, text in enumerate(INSTRUCTIONS)
        ]
        save(tmp_path / f"{model}.json", rows)
        seen = seft_bench("eval", f"{model}.json", "--suite", pairwise(tmp_path), "--judge", judge, "--json")
        assert seen.status == 0, seen.err
        [row] = json.loads(seen.out)
        assert (row["suite"], row["n"], row["n_scored"], row["metrics"]["lc_win_rate"]) == ("mine", 20, 20, None)
    judged = [str(path) for path in sorted((tmp_path / "runs").rglob("judgments-*.jsonl"))]
    answers = [str(path.parent / "answers.jsonl") for path in map(Path, judged)]
    assert len(judged) == 2
    flags = [
        flag for pair in zip(judged, answers, strict=True) for flag in ("--judgments", pair[0], "--answers", pair[1])
    ]
    assert seft_bench("suites", "difficulty", "mine.yaml", *flags, "--out", "difficulty.json").status == 0
    pairwise(tmp_path, "difficulty: difficulty.json\n")
    seen = seft_bench(
        "eval",
        "one.json",
        "--suite",
        "mine.yaml",
        "--judge",
        judge,
        "--lc-c",
        "cross-validated",
        "--lc-interval",
        "bootstrap",
        "--json",
    )
    [row] = json.loads(seen.out)
    assert row["metrics"]["lc_low"] <= row["metrics"]["lc_win_rate"] <= row["metrics"]["lc_high"]
    assert any("percentile interval" in note for note in row["notes"])
    kept = json.loads(next((tmp_path / "results").rglob("one*/result.json")).read_text())
    assert str(tmp_path) not in json.dumps(kept["manifest"]["config"])


def test_evaluation_of_own_conversations(tmp_path: Path, judge: str) -> None:
    suite = conversations(
        tmp_path,
        [
            {"id": 1, "turns": ["1+1?", "2+2?"], "category": "math", "reference": ["2", "4"]},
            {"id": 2, "turns": ["Hi?"]},
        ],
    )
    rows = [
        {"question_id": name, "model_id": "m", "choices": [{"index": 0, "turns": turns}]}
        for name, turns in ((1, ["2", "4"]), (2, ["Hello."]))
    ]
    save(tmp_path / "answers.jsonl", rows)
    seen = seft_bench("eval", "answers.jsonl", "--suite", suite, "--judge", judge, "--json")
    assert seen.status == 0, seen.err
    [row] = json.loads(seen.out)
    assert (row["suite"], row["n"], row["metrics"]["score"], row["metrics"]["by_category"]) == (
        "talks",
        3,
        7.0,
        {"math": 7.0},
    )


def test_flags_without_a_pairwise_suite(tmp_path: Path) -> None:
    seen = seft_bench("eval", "anything", "--suite", "tiny-mtbench", "--lc-c", "3", "--lc-interval", "bootstrap")
    assert seen.status == 2
    assert "--lc-c and --lc-interval: only suites of kind alpacaeval" in seen.err


def test_a_question_set_without_difficulties_has_no_length_control_to_set(tmp_path: Path) -> None:
    seen = seft_bench("eval", "m.json", "--suite", pairwise(tmp_path), "--lc-c", "1")
    assert seen.status == 2
    assert "own ones with a `difficulty` other than none; asked for: mine" in seen.err
