"""`seft-bench export` and `import`: what is written is what comes back, to the byte, and nothing is lost without a
word.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from seft_bench.config import config_folder
from seft_bench.evaluation.score_files import result_row, score_files
from seft_bench.files import write_jsonl
from seft_bench.judges.prompts import render
from seft_bench.records import Answer, Judgment, to_row
from seft_bench.suites import load_suite
from tests.integration.cli import good, seft_bench
from tests.real_data import read_gzip

MODELS = ("org/model-a", "../../model-b", "MODEL c")
FORMATS = {"alpaca_eval": "tiny-alpacaeval", "fastchat": "tiny-mtbench"}
HOSTILE = "</s> a/b \u2028 \N{PILE OF POO} [[10]] <|im_end|>"


def write_answers(path: Path, suite_name: str, models: tuple[str, ...] = MODELS) -> None:
    """Answers of unequal quality: every third question is answered with the question's own words, some with hostile
    text.
    """
    suite = load_suite(suite_name)
    rows = []
    for position, model in enumerate(models):
        for number, question in enumerate(suite.questions()):
            reference = question.reference or question.turns
            texts = [
                text if (number + position) % 3 else HOSTILE + turn
                for text, turn in zip((*reference, *question.turns), question.turns, strict=False)
            ]
            rows.append(to_row(Answer(suite_name, question.id, model, tuple(texts))))
    write_jsonl(path, rows)


def evaluated(suite: str, models: tuple[str, ...] = MODELS) -> None:
    """An evaluation by the rubric, in the current folder."""
    write_answers(Path("answers.jsonl"), suite, models)
    good(seft_bench("eval", "answers.jsonl", "--suite", suite))


def judged(suite: str, model: str, changes: dict[int, dict[str, Any]]) -> tuple[Path, Path]:
    """Files of one model's answers and of judgments by a judge with log-probabilities or grades; `changes` are by row
    number.
    """
    chosen = load_suite(suite)
    write_answers(Path("answers.jsonl"), suite, (model,))
    texts = {
        row["question_id"]: Answer(suite, row["question_id"], model, tuple(row["turns"]))
        for row in lines(Path("answers.jsonl"))
    }
    rows = []
    for number, request in enumerate(chosen.requests(chosen.questions(), texts)):
        verdict: dict[str, Any] = (
            {"score": 1.0 + number % 10} if request.kind == "grade" else {"preference": 1.0 + number % 8 / 8}
        )
        row = Judgment(
            suite,
            request.question.id,
            model,
            request.turn,
            request.key,
            request.answer_hash,
            "judge-1a2b",
            "m",
            "m",
            "",
            "single",
            "ok",
            **verdict,
        )
        said: dict[str, Any] = {"raw": f"Rating: {number}", "judged_at": "2026-01-02T03:04:05+00:00", "price_usd": 0.25}
        rows.append(dataclasses.replace(row, **said | changes.get(number, {})))
    write_jsonl(Path("judgments.jsonl"), map(to_row, rows))
    return Path("answers.jsonl"), Path("judgments.jsonl")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


FAILED = {
    3: {"status": "refused", "score": None, "preference": None, "raw": "I would rather not."},
    5: {"status": "parse_error", "score": None, "preference": None, "raw": "no idea"},
}
KINDS = {
    "plain": {},
    "with-failures": FAILED,
    "with-parts": {2: {"details": {"content": 0.5, "top_logprobs": {"m": -0.1, "M": -2.5}}}},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("format_name", FORMATS)
def test_export_import_export_is_byte_identical(
    desk: Path, format_name: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = FORMATS[format_name]
    answers, judgments = judged(suite, "org/model", KINDS[kind])
    good(
        seft_bench(
            "export",
            "--format",
            format_name,
            "--suite",
            suite,
            "--answers",
            str(answers),
            "--judgments",
            str(judgments),
            "--out",
            "first",
        )
    )
    [original] = score_files(suite, answers, judgments)
    source = str(desk / "first")
    (desk / "elsewhere").mkdir()
    monkeypatch.chdir(desk / "elsewhere")
    [imported] = json.loads(good(seft_bench("import", source, "--format", format_name, "--suite", suite, "--json")).out)
    assert {**imported, "notes": 0} == {**result_row(original), "notes": 0}
    good(seft_bench("export", "--format", format_name, "--suite", suite, "--out", str(desk / "second")))
    assert contents(desk / "second") == contents(desk / "first")
    assert len(contents(desk / "first")) == (3 if format_name == "alpaca_eval" else 2)


def test_conversations_of_ones_own_come_out_of_an_import(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl(
        Path("talks.jsonl"),
        [{"question_id": name, "category": "talk", "turns": [f"{name}?", "And then?"]} for name in ("a", "b")],
    )
    suite = yaml.safe_load((config_folder() / "suites" / "tiny-mtbench.yaml").read_text())
    Path("talks.yaml").write_text(
        yaml.safe_dump(suite | {"name": "talks", "source": "files", "questions": "talks.jsonl"})
    )
    answers, judgments = judged("talks.yaml", "org/model", {})
    arguments = ("--format", "fastchat", "--suite", "talks.yaml")
    good(seft_bench("export", *arguments, "--answers", str(answers), "--judgments", str(judgments), "--out", "first"))
    good(seft_bench("import", "first", *arguments))
    good(seft_bench("export", *arguments, "--out", "second"))
    assert contents(desk / "second") == contents(desk / "first")


@pytest.mark.parametrize("format_name", FORMATS)
def test_evaluated_models_go_out_and_come_back(desk: Path, format_name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    suite = FORMATS[format_name]
    evaluated(suite)
    own = {
        result["model"]: result
        for result in json.loads(seft_bench("eval", "answers.jsonl", "--suite", suite, "--json").out)
    }
    seen = good(seft_bench("export", "--format", format_name, "--suite", suite, "--out", "out"))
    written = seen.out.split()
    assert set(written) == {f"out/{name}" for name in contents(desk / "out")}
    assert "../../model-b is called model-b" in seen.err
    assert not (desk.parent / "model-b").exists()
    (desk / "elsewhere").mkdir()
    monkeypatch.chdir(desk / "elsewhere")
    back = {
        result["model"]: result
        for result in json.loads(
            good(seft_bench("import", "../out", "--format", format_name, "--suite", suite, "--json")).out
        )
    }
    assert set(back) == set(own) == set(MODELS)
    for model in MODELS:
        assert back[model]["metrics"] == own[model]["metrics"]
    table = Path("results/leaderboard.csv").read_text()
    assert table.count(",imported,") == len(MODELS)
    good(seft_bench("export", "--format", format_name, "--suite", suite, "--out", str(desk / "again")))
    assert contents(desk / "again") == contents(desk / "out")


def test_failures_are_marked_as_the_official_tools_mark_them_and_said(desk: Path) -> None:
    changes: dict[int, dict[str, Any]] = FAILED | {
        7: {"status": "api_error", "score": None, "preference": None, "raw": "connection cut"}
    }
    for format_name, suite in FORMATS.items():
        answers, judgments = judged(suite, "model", changes)
        seen = good(
            seft_bench(
                "export",
                "--format",
                format_name,
                "--suite",
                suite,
                "--answers",
                str(answers),
                "--judgments",
                str(judgments),
                "--out",
                "out",
            )
        )
        assert "3 judgments are unscored" in seen.err
    rows = json.loads(Path("out/results/model/judge-1a2b/annotations.json").read_text())
    assert [number for number, row in enumerate(rows) if row["preference"] is None] == [3, 5, 7]
    grades = lines(Path("out/data/mt_bench/model_judgment/judge-1a2b_single.jsonl"))
    assert [(row["score"], row["judgment"]) for row in grades if row["score"] == -1] == [
        (-1, "I would rather not."),
        (-1, "no idea"),
        (-1, "$ERROR$"),
    ]
    assert [rows[number]["seft_bench"].get("status") for number in (3, 7)] == ["refused", "api_error"]


def test_too_many_failures_are_withheld_with_status_5(desk: Path) -> None:
    suite = "tiny-alpacaeval"
    changes = dict.fromkeys(range(0, 1000, 4), FAILED[5])
    answers, judgments = judged(suite, "model", changes)
    seen = seft_bench(
        "export",
        "--format",
        "alpaca_eval",
        "--suite",
        suite,
        "--answers",
        str(answers),
        "--judgments",
        str(judgments),
        "--out",
        "out",
    )
    assert seen.status == 5
    assert "WITHHELD model" in seen.err
    assert not (desk / "out" / "leaderboards").exists()
    assert seft_bench("import", "out", "--format", "alpaca_eval", "--suite", suite).status == 5


def test_the_leaderboard_has_the_official_columns(desk: Path) -> None:
    evaluated("tiny-alpacaeval")
    good(seft_bench("export", "--format", "alpaca_eval", "--suite", "tiny-alpacaeval", "--out", "out"))
    [path] = Path("out/leaderboards").iterdir()
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert list(rows[0]) == [
        *(
            "",
            "win_rate",
            "standard_error",
            "n_wins",
            "n_wins_base",
            "n_draws",
            "n_total",
            "discrete_win_rate",
            "mode",
            "avg_length",
        ),
        *("length_controlled_winrate", "lc_standard_error"),
    ]
    assert {row[""] for row in rows} == set(MODELS)
    figures = [float(row["length_controlled_winrate"]) for row in rows]
    assert figures == sorted(figures, reverse=True)
    assert all(
        int(row["n_wins"]) + int(row["n_wins_base"]) + int(row["n_draws"]) == int(row["n_total"]) for row in rows
    )


def test_one_model_by_name_and_one_judge(desk: Path) -> None:
    evaluated("tiny-mtbench")
    good(
        seft_bench(
            "export", "MODEL c", "--format", "fastchat", "--suite", "tiny-mtbench", "--judge", "rubric", "--out", "out"
        )
    )
    [path] = Path("out/data/mt_bench/model_judgment").iterdir()
    assert {row["model"] for row in lines(path)} == {"MODEL c"}
    seen = seft_bench(
        "export", "MODEL c", "--format", "fastchat", "--suite", "tiny-mtbench", "--judge", "other", "--out", "out2"
    )
    assert seen.status == 2
    assert "judge 'other' did not judge MODEL c" in seen.err
    seen = seft_bench("export", "nobody", "--format", "fastchat", "--suite", "tiny-mtbench", "--out", "out2")
    assert seen.status == 2
    assert "MODEL c" in seen.err
    assert not (desk / "out2").exists()


@pytest.mark.parametrize("argument", ["run", "runs/run", "run/step-2", "runs/run/checkpoints/step-2"])
def test_a_run_and_a_checkpoint_by_name_and_by_path(desk: Path, argument: str) -> None:
    evaluated("tiny-mtbench", ("run/step-1", "run/step-2", "other/step-2"))
    good(seft_bench("export", argument, "--format", "fastchat", "--suite", "tiny-mtbench", "--out", "out"))
    wanted = {"run-step-2"} if "step" in argument else {"run-step-1", "run-step-2"}
    assert {path.stem for path in Path("out/data/mt_bench/model_answer").iterdir()} == wanted


def test_two_models_and_judges_that_differ_in_a_slash_are_imported_apart(desk: Path) -> None:
    [question, *_] = load_suite("tiny-mtbench").questions()
    row = {"question_id": question.id, "judgment": "[[7]]", "score": 7, "turn": 1}
    rows = [row | {"model": model, "judge": [judge, "x"]} for model in ("a/b", "a-b") for judge in ("j/1", "j-1")]
    write_jsonl(desk / "x_single.jsonl", rows)
    assert seft_bench("import", "x_single.jsonl", "--format", "fastchat", "--suite", "tiny-mtbench").status == 5
    found = [
        (row["model_id"], row["judge_id"]) for path in Path("runs").rglob("judgments-*.jsonl") for row in lines(path)
    ]
    assert sorted(found) == [("a-b", "j-1"), ("a-b", "j/1"), ("a/b", "j-1"), ("a/b", "j/1")]


def test_names_that_would_meet_in_one_file_stay_apart(desk: Path) -> None:
    write_answers(desk / "answers.jsonl", "tiny-alpacaeval", ("a/b", "a-b", "A-B"))
    good(
        seft_bench(
            "export",
            "--format",
            "alpaca_eval",
            "--suite",
            "tiny-alpacaeval",
            "--answers",
            "answers.jsonl",
            "--out",
            "out",
        )
    )
    outputs = list(Path("out/results").glob("*/model_outputs.json"))
    assert len({path.parent.name.casefold() for path in outputs}) == 3
    assert {json.loads(path.read_text())[0]["generator"] for path in outputs} == {"a/b", "a-b", "A-B"}


def test_an_export_never_drops_another_models_rows(desk: Path) -> None:
    evaluated("tiny-mtbench")
    export = ("--format", "fastchat", "--suite", "tiny-mtbench", "--out", "out")
    good(seft_bench("export", *export))
    before = contents(desk / "out")
    seen = seft_bench("export", "MODEL c", *export)
    assert seen.status == 2
    assert "org/model-a" in seen.err
    assert contents(desk / "out") == before
    good(seft_bench("export", *export))
    assert contents(desk / "out") == before


def test_two_decodings_of_a_model_are_two_names(desk: Path) -> None:
    evaluated("tiny-mtbench", ("model",))
    [folder] = Path("runs/evaluations").glob("*/tiny-mtbench/given")
    other = folder.with_name("greedy")
    other.mkdir()
    for path in folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    good(seft_bench("export", "--format", "fastchat", "--suite", "tiny-mtbench", "--out", "out"))
    assert {path.stem for path in Path("out/data/mt_bench/model_answer").iterdir()} == {"model-given", "model-greedy"}
    good(
        seft_bench("export", "--format", "fastchat", "--suite", "tiny-mtbench", "--decoding", "greedy", "--out", "one")
    )
    assert {path.stem for path in Path("one/data/mt_bench/model_answer").iterdir()} == {"model"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "--format", "alpaca_eval", "--suite", "tiny-mtbench", "--out", "o"], "which fastchat holds"),
        (["export", "--format", "lm_eval", "--suite", "tiny-mtbench", "--out", "o"], "known are alpaca_eval, fastchat"),
        (
            ["export", "--format", "fastchat", "--suite", "tiny-mtbench", "--out", "o"],
            "seft-bench eval MODEL --suite tiny-mtbench",
        ),
        (
            ["export", "m", "--format", "fastchat", "--suite", "tiny-mtbench", "--out", "o", "--answers", "a"],
            "leave out MODEL",
        ),
        (["import", "empty", "--format", "fastchat", "--suite", "tiny-mtbench"], "holds no model_answer"),
        (["import", "absent.json", "--format", "alpaca_eval", "--suite", "tiny-alpacaeval"], "not found: absent.json"),
        (
            ["import", "foreign.json", "--format", "alpaca_eval", "--suite", "tiny-alpacaeval"],
            "nothing in it is of a question of tiny-alpacaeval",
        ),
        (["import", "foreign.json", "--format", "fastchat", "--suite", "tiny-mtbench"], "holds alpaca_eval outputs"),
        (["import", "bad.csv", "--format", "alpaca_eval", "--suite", "tiny-alpacaeval"], "column win_rate is missing"),
        (
            ["import", "worse.csv", "--format", "alpaca_eval", "--suite", "tiny-alpacaeval"],
            "line 2: win_rate is not a number: 'high'",
        ),
    ],
)
def test_wrong_use_is_one_message_and_writes_nothing(desk: Path, arguments: list[str], message: str) -> None:
    (desk / "empty").mkdir()
    (desk / "foreign.json").write_text(json.dumps([{"instruction": "x", "output": "y", "generator": "m"}]))
    (desk / "bad.csv").write_text("model,score\nm,1\n")
    (desk / "worse.csv").write_text(",win_rate\nm,high\n")
    before = contents(desk)
    seen = seft_bench(*arguments)
    assert (seen.status, contents(desk)) == (2, before)
    assert message in seen.err


def test_verdicts_beside_another_baseline_are_refused(desk: Path) -> None:
    questions = load_suite("tiny-alpacaeval").questions()
    row = {"output_1": "another", "output_2": "mine", "generator_2": "m", "annotator": "j", "preference": 1.5}
    (desk / "annotations.json").write_text(
        json.dumps([row | {"instruction": question.turns[0]} for question in questions])
    )
    seen = seft_bench("import", "annotations.json", "--format", "alpaca_eval", "--suite", "tiny-alpacaeval")
    assert seen.status == 2
    assert "another baseline" in seen.err
    assert not (desk / "results").exists()


def csv_rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_a_leaderboard_becomes_a_labelled_block_that_is_not_ranked(desk: Path) -> None:
    evaluated("tiny-alpacaeval")
    good(seft_bench("export", "--format", "alpaca_eval", "--suite", "tiny-alpacaeval", "--out", "out"))
    text = ",win_rate,standard_error,mode,avg_length,lc_standard_error\nGreat,91.5,0.7,verified,1234,\n"
    (desk / "judge_x_leaderboard.csv").write_text(text)
    before = csv_rows(Path("results/leaderboard.csv"))
    good(seft_bench("import", "judge_x_leaderboard.csv", "--format", "alpaca_eval", "--suite", "tiny-alpacaeval"))
    block = json.loads(Path("results/published/judge_x_leaderboard.json").read_text())
    assert (block["judge"], block["suite"], block["source"], len(block["sha256"])) == (
        "judge_x",
        "tiny-alpacaeval",
        "judge_x_leaderboard.csv",
        64,
    )
    assert "not measured here" in block["label"]
    assert block["figures"] == [
        {
            "model": "Great",
            "win_rate": 91.5,
            "standard_error": 0.7,
            "avg_length": 1234.0,
            "lc_standard_error": None,
            "mode": "verified",
        }
    ]
    good(seft_bench("leaderboard"))
    *rows, published = csv_rows(Path("results/leaderboard.csv"))
    assert [{key: row[key] for key in before[0]} for row in rows] == before  # not a rank, not a mark is another
    assert (
        published["block"],
        published["published"],
        published["model"],
        published["rank"],
        published["win_rate"],
    ) == (
        f"published, conditions differ: imported from judge_x_leaderboard.csv, {block['imported_at'][:10]}",
        *("Great", "", "", "91.5"),
    )
    seen = good(seft_bench("import", "out", "--format", "alpaca_eval", "--suite", "tiny-alpacaeval"))
    assert "1 files below out are left out (rubric" in seen.err


def test_a_status_that_contradicts_the_verdict_is_not_believed(desk: Path) -> None:
    answers, judgments = judged("tiny-mtbench", "model", FAILED)
    good(
        seft_bench(
            "export",
            "--format",
            "fastchat",
            "--suite",
            "tiny-mtbench",
            "--answers",
            str(answers),
            "--judgments",
            str(judgments),
            "--out",
            "out",
        )
    )
    [path] = Path("out/data/mt_bench/model_judgment").iterdir()
    rows = lines(path)
    for row in rows:
        row["seft_bench"] = {"status": "ok" if row["score"] == -1 else "refused", "details": "none"}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    [imported] = json.loads(
        good(seft_bench("import", "out", "--format", "fastchat", "--suite", "tiny-mtbench", "--json")).out
    )
    assert imported["n_unscored"] == 2


def test_the_judges_prompt_is_given_where_it_is_the_recorded_one(desk: Path) -> None:
    suite = load_suite("tiny-mtbench")
    answers, judgments = judged("tiny-mtbench", "model", {})
    texts = {
        row["question_id"]: Answer("tiny-mtbench", row["question_id"], "model", tuple(row["turns"]))
        for row in lines(answers)
    }
    prompts = [render(request, "seft-bench") for request in suite.requests(suite.questions(), texts)]
    rows = lines(judgments)
    for row, prompt in list(zip(rows, prompts, strict=True))[:4]:
        row["prompt_hash"] = prompt.hash
    rows[3]["prompt_hash"] = "another"
    write_jsonl(judgments, rows)
    good(
        seft_bench(
            "export",
            "--format",
            "fastchat",
            "--suite",
            "tiny-mtbench",
            "--answers",
            str(answers),
            "--judgments",
            str(judgments),
            "--out",
            "out",
        )
    )
    made = lines(desk / "out" / "data" / "mt_bench" / "model_judgment" / "judge-1a2b_single.jsonl")
    assert [row["user_prompt"] for row in made[:5]] == [
        *(prompt.messages[-1]["content"] for prompt in prompts[:3]),
        "",
        "",
    ]


def test_log_probabilities_have_the_official_form(desk: Path) -> None:
    details = {"top_logprobs": {"m": -0.25, "M": -1.5}}
    answers, judgments = judged(
        "tiny-alpacaeval",
        "model",
        {0: {"details": details, "raw": "m", "prompt_tokens": 10, "completion_tokens": 1}, 1: {"raw": ""}},
    )
    good(
        seft_bench(
            "export",
            "--format",
            "alpaca_eval",
            "--suite",
            "tiny-alpacaeval",
            "--answers",
            str(answers),
            "--judgments",
            str(judgments),
            "--out",
            "out",
        )
    )
    first, second, *_ = json.loads((desk / "out" / "results" / "model" / "judge-1a2b" / "annotations.json").read_text())
    [token] = first["raw_completion"]["logprobs"]["content"]
    assert (token["token"], token["bytes"], token["logprob"]) == ("m", [109], -0.25)
    assert {entry["token"]: entry["logprob"] for entry in token["top_logprobs"]} == details["top_logprobs"]
    assert (
        first["raw_completion"]["message"]["content"],
        first["raw_completion"]["total_tokens"],
        first["price_per_example"],
    ) == ("m", 11.0, 0.25)
    assert second["raw_completion"] is None


# The official tools' own files


@pytest.mark.usefixtures("official_data")
def test_verbatim_official_files_come_out_as_they_went_in(desk: Path, shared_data: Path) -> None:
    source = shared_data / "examples" / "alpaca_eval" / "gemma-2b-it"
    good(seft_bench("import", str(source), "--format", "alpaca_eval", "--suite", "alpacaeval"))
    good(seft_bench("export", "gemma-2b-it", "--format", "alpaca_eval", "--suite", "alpacaeval", "--out", "out"))
    made = desk / "out" / "results" / "gemma-2b-it"
    assert (made / "model_outputs.json").read_bytes() == (source / "model_outputs.json").read_bytes()
    # numbers are spelled otherwise (1e-05), so values are compared
    name = "weighted_alpaca_eval_gpt4_turbo/annotations.json"
    ours, theirs = (json.loads((folder / name).read_text()) for folder in (made, source))
    assert ours == theirs
    assert list(ours[0]) == list(theirs[0])


@pytest.mark.usefixtures("official_data")
def test_real_mtbench_judgments_come_out_as_they_went_in(desk: Path, shared_data: Path) -> None:
    """1,440 rows of eight models, one of them judged twice; only a failure of a turn that was also scored is left out:
    it was asked again.
    """
    rows = read_gzip(shared_data / "mt_bench" / "judgments_single.jsonl.gz")
    folder = desk / "in" / "data" / "mt_bench" / "model_judgment"
    folder.mkdir(parents=True)
    (folder / "gpt-4_single.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert seft_bench("import", "in", "--format", "fastchat", "--suite", "mtbench").status == 5
    seen = seft_bench("export", "--format", "fastchat", "--suite", "mtbench", "--out", "out")
    assert seen.status == 5
    made = lines(desk / "out" / "data" / "mt_bench" / "model_judgment" / "gpt-4_single.jsonl")

    def order(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["model"], row["question_id"], row["turn"], row["tstamp"], row["run"]

    scored = {(row["model"], row["question_id"], row["turn"]) for row in rows if row["score"] != -1}
    expected = [
        row for row in rows if row["score"] != -1 or (row["model"], row["question_id"], row["turn"]) not in scored
    ]
    assert len(rows) - len(expected) == 1
    assert sorted(made, key=order) == sorted(expected, key=order)
    assert {result.model for result in score_files("mtbench", None, folder / "gpt-4_single.jsonl")} == {
        row["model"] for row in made
    }
