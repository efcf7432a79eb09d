"""Bad input: one clear message that says what to do next, exit status 2, nothing on stdout, no traceback."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from seft_bench.data.official import OFFICIAL_FILES
from tests.integration.cli import Seen, seft_bench

SFT_ROW = {"prompt": [{"role": "user", "content": "Name a fish."}], "answer": "Sure: A carp."}
ANSWER = {"instruction": "Do it.", "output": "Done.", "generator": "me"}


@pytest.fixture(autouse=True)
def _broken_files(desk: Path, tiny_model: Path) -> None:
    """Configs, data and checkpoints, each broken in its own way."""
    _write_configs(desk)
    _write_data(desk)
    _write_checkpoints(desk, tiny_model)


def _write_configs(desk: Path) -> None:
    (desk / "broken.yaml").write_text("name: [\n")
    (desk / "list.yaml").write_text("- a\n- b\n")
    (desk / "latin.yaml").write_bytes("name: caf\xe9\n".encode("latin-1"))
    (desk / "keys.yaml").write_text("name: bad name\nmethod: sft\nbase: tinyworld\nseed: many\ncolour: red\n")
    (desk / "judge.yaml").write_text("name: mine\nkind: openai\nmodel: m\napi_key: sk-1\ntimeout_seconds: -1\n")
    (desk / "keyed.yaml").write_text("name: keyed\nkind: openai\nmodel: m\n")
    (desk / "kind.yaml").write_text("name: mine\nkind: oracle\n")
    (desk / "suite.yaml").write_text(
        "name: mine\nkind: mtbench\nsource: tinyworld\ndefault_judge: rubric\ndecodings: {}\nmax_new_tokens: 0\n"
    )
    (desk / "matrix.yaml").write_text(
        "name: m\nbase: tinyworld\nseeds: []\nsuites: [tiny-mtbench]\nrows:\n  - {name: a, method: sft, role: hero}\n"
    )
    (desk / "unknown-method.yaml").write_text(
        "name: m\nbase: tinyworld\nseeds: [0]\nsuites: [tiny-mtbench]\nrows:\n  - {name: a, method: magic}\n"
    )
    (desk / "taken.yaml").write_text("name: taken\nmethod: sft\nbase: tinyworld\n")


def _recipe(desk: Path, name: str, base: str, data: str) -> None:
    (desk / f"{name}.yaml").write_text(
        f"name: {name}\nmethod: sft\nbase: {base}\ndata: {data}\nsettings: {{start: {{max_steps: 1}}}}\n"
    )


def _write_data(desk: Path) -> None:
    for name, text in {
        "bad-row": f"{json.dumps(SFT_ROW)}\n{{oops\n",
        "no-answer": json.dumps({"prompt": SFT_ROW["prompt"]}) + "\n",
        "empty": "",
    }.items():
        (desk / name).mkdir()
        (desk / name / "sft.jsonl").write_text(text)
        _recipe(desk, f"{name}-recipe", "./tiny", name)
    (desk / "bare").mkdir()
    _recipe(desk, "bare-recipe", "./tiny", "bare")
    _recipe(desk, "nowhere-recipe", "./tiny", "nowhere")
    (desk / "answers.json").write_text(json.dumps([ANSWER]))
    (desk / "cut.json").write_text('[{"instruction": "a"')
    (desk / "bad-line.jsonl").write_text(
        f"{json.dumps({'question_id': 81, 'model': 'a', 'judgment': '', 'score': 7, 'turn': 1})}\nnot json\n"
    )
    (desk / "empty.jsonl").write_text("\n")
    (desk / "strange.jsonl").write_text('{"a": 1}\n')
    (desk / "elsewhere.jsonl").write_text(
        json.dumps({"question_id": "81", "model": "a", "judge": "j", "judgment": "[[7]]", "score": 7, "turn": 1}) + "\n"
    )


def _write_checkpoints(desk: Path, model: Path) -> None:
    shutil.copytree(model, desk / "tiny")
    shutil.copytree(model, desk / "no-tokenizer", ignore=shutil.ignore_patterns("tokenizer*", "*.jinja"))
    shutil.copytree(model, desk / "no-template", ignore=shutil.ignore_patterns("*.jinja"))
    (desk / "no-weights").mkdir()
    (desk / "no-weights" / "README").write_text("nothing else")
    for name in ("no-tokenizer", "no-template"):
        _recipe(desk, f"{name}-recipe", f"./{name}", "good")
    (desk / "good").mkdir()
    (desk / "good" / "sft.jsonl").write_text(json.dumps(SFT_ROW) + "\n")


BAD_INPUT = {
    # names
    "unknown recipe": (["train", "nope"], ["unknown recipe 'nope'", "tiny-seft", "NAME.yaml"]),
    "unknown method": (["train", "method=nope"], ["unknown method 'nope'", "seft", "methods list"]),
    "unknown suite": (["eval", "tiny", "--suite", "nope"], ["unknown suite 'nope'", "tiny-mtbench"]),
    "unknown judge": (["eval", "tiny", "--judge", "nope"], ["unknown judge 'nope'", "rubric"]),
    "unknown kind of judge": (["eval", "tiny", "--judge", "kind.yaml"], ["kind.yaml", "oracle", "rubric"]),
    "unknown step": (["eval", "tiny", "--stage", "nonsense"], ["unknown", "nonsense", "answer, judge, score"]),
    "unknown matrix": (["bench", "nope"], ["unknown matrix 'nope'", "tinyworld"]),
    "unknown format": (["leaderboard", "--format", "pdf"], ["unknown format 'pdf'", "latex"]),
    "unknown method to show": (["methods", "show", "nope"], ["unknown method", "dpo"]),
    "unknown judge to show": (["judges", "show", "nope"], ["unknown judge", "rubric"]),
    "unknown suite to show": (["suites", "show", "nope"], ["unknown suite", "mtbench"]),
    "unknown method in a matrix": (["bench", "unknown-method.yaml"], ["unknown method 'magic'", "seft"]),
    "unknown data set": (["data", "make", "--out", "d", "--only", "nope"], ["unknown data set 'nope'", "preferences"]),
    # YAML
    "missing YAML": (["train", "missing.yaml"], ["missing.yaml", "not found"]),
    "broken YAML": (["train", "broken.yaml"], ["broken.yaml", "not valid YAML"]),
    "YAML that is a list": (["train", "list.yaml"], ["mapping", "list"]),
    "YAML that is not UTF-8": (["train", "latin.yaml"], ["latin.yaml", "UTF-8"]),
    "all errors of a recipe": (
        ["train", "keys.yaml"],
        ["3 errors", "name:", "seed:", "colour: unknown key", "allowed are base"],
    ),
    "all errors of a suite": (
        ["eval", "tiny", "--suite", "suite.yaml"],
        ["3 errors", "decodings", "max_new_tokens", "description: is missing"],
    ),
    "all errors of a matrix": (["bench", "matrix.yaml"], ["2 errors", "seeds", "rows.0.role"]),
    "all errors of a judge": (["eval", "tiny", "--judge", "judge.yaml"], ["2 errors", "api_key", "timeout_seconds"]),
    "unknown setting": (
        ["train", "settings.colour=1", "settings.policy.lr=1"],
        ["2 errors", "colour: unknown key", "policy.lr: unknown key"],
    ),
    "override without =": (["train", "tiny-seft", "seed"], ["'seed'", "key=value"]),
    # options
    "seeds that are no numbers": (["bench", "tinyworld", "--seeds", "a,b"], ["--seeds", "0,1,2"]),
    "no such command": (["frobnicate"], ["No such command", "--help"]),
    "no such option": (["train", "--colour"], ["No such option", "--help"]),
    "value out of range": (["demo", "--seeds", "0"], ["--seeds", "greater than or equal to 1"]),
    "server without a model": (["eval", "--server", "http://127.0.0.1:9/v1"], ["--server", "name of a model"]),
    # data
    "malformed row of training data": (["train", "bad-row-recipe.yaml"], ["sft.jsonl", "line 2", "not valid JSON"]),
    "row without what is learnt": (["train", "no-answer-recipe.yaml"], ["line 1", "prompt"]),
    "empty data set": (["train", "empty-recipe.yaml"], ["sft.jsonl", "no rows"]),
    "folder without the data set": (["train", "bare-recipe.yaml"], ["lacks sft.jsonl", "docs/data.md"]),
    "no such data": (["train", "nowhere-recipe.yaml"], ["'nowhere'", "tinyworld", "docs/data.md"]),
    # checkpoints
    "base without tokenizer": (
        ["train", "no-tokenizer-recipe.yaml"],
        ["no tokenizer", "no-tokenizer", "save_pretrained"],
    ),
    "base without chat template": (
        ["train", "no-template-recipe.yaml"],
        ["no-template", "no chat template", "chat_template.jinja"],
    ),
    "base that is no checkpoint": (["train", "base=./no-weights"], ["no-weights", "config.json"]),
    "checkpoint without tokenizer": (["eval", "no-tokenizer"], ["no tokenizer", "save_pretrained"]),
    "checkpoint without chat template": (["eval", "no-template"], ["no chat template", "chat_template.jinja"]),
    "folder without checkpoint": (["eval", "no-weights"], ["no checkpoint in no-weights", "README"]),
    "no such model": (["eval", "nowhere"], ["'nowhere' not found", "hub id"]),
    "hub id, offline": (["eval", "somebody/some-model"], ["somebody/some-model", "hub"]),
    "nothing to evaluate": (["eval"], ["no checkpoints under runs", "seft-bench train"]),
    # answers and judgments
    "answers of another suite": (["eval", "answers.json"], ["answers.json", "none of the 80 questions"]),
    "missing judgments": (
        ["score", "--suite", "tiny-mtbench", "--judgments", "gone.jsonl"],
        ["gone.jsonl", "answers.json"],
    ),
    "broken JSON": (
        ["score", "--suite", "tiny-alpacaeval", "--judgments", "cut.json"],
        ["cut.json", "line 1", "not valid JSON"],
    ),
    "malformed row of judgments": (
        ["score", "--suite", "tiny-mtbench", "--judgments", "bad-line.jsonl"],
        ["bad-line.jsonl", "line 2"],
    ),
    "no judgments": (["score", "--suite", "tiny-mtbench", "--judgments", "empty.jsonl"], ["empty.jsonl", "no rows"]),
    "unknown format of judgments": (
        ["score", "--suite", "tiny-mtbench", "--judgments", "strange.jsonl"],
        ["strange.jsonl", "FastChat judgments"],
    ),
    "judgments of another suite": (
        ["score", "--suite", "tiny-mtbench", "--judgments", "elsewhere.jsonl"],
        ["elsewhere.jsonl", "none of its 1 judgments"],
    ),
    "answers taken for judgments": (
        ["score", "--suite", "tiny-alpacaeval", "--judgments", "answers.json"],
        ["answers.json", "alpaca_eval outputs"],
    ),
    # results
    "no results": (["leaderboard"], ["no results in results", "seft-bench eval"]),
    # what the official suites need
    "official judge without a key": (
        ["eval", "tiny", "--suite", "mtbench", "--judge", "keyed.yaml"],
        ["OPENAI_API_KEY", "not set", "--judge local-openai", "FILE.yaml"],
    ),
    "retired judge": (
        ["eval", "tiny", "--suite", "alpacaeval"],
        ["alpacaeval-gpt4-turbo", "2026-03-26", "seft-bench score", "local-openai"],
    ),
    "rubric for an official suite": (["eval", "tiny", "--suite", "mtbench", "--judge", "rubric"], ["tinyworld only"]),
    "official data missing": (
        ["score", "--suite", "mtbench", "--judgments", "elsewhere.jsonl"],
        ["mt_bench/question.jsonl", "SEFT_BENCH_DATA_DIR", "tiny-"],
    ),
}


def assert_user_error(seen: Seen, *words: str) -> None:
    assert seen.status == 2, seen.err
    assert "Traceback" not in seen.err
    for word in words:
        assert word in seen.err
    assert len(seen.err) < 3000


@pytest.mark.parametrize("case", BAD_INPUT)
@pytest.mark.usefixtures("desk")
def test_bad_input(case: str) -> None:
    arguments, words = BAD_INPUT[case]
    seen = seft_bench(*arguments)
    assert_user_error(seen, *words)
    assert seen.out == ""


def test_nothing_was_made_for_bad_input(desk: Path) -> None:
    """A wrong judge or suite is said before anything is loaded, answered or written."""
    seft_bench("eval", "tiny", "--judge", "nope")
    seft_bench("eval", "tiny", "--suite", "mtbench")
    assert not (desk / "runs" / "evaluations").exists()
    assert not (desk / "results").exists()


def test_missing_official_data_is_said_before_the_judge_is_asked(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-never-sent")
    seen = seft_bench("eval", "tiny", "--suite", "mtbench", "--judge", "keyed.yaml")
    assert_user_error(seen, "official file missing", "SEFT_BENCH_DATA_DIR")
    assert "sk-never-sent" not in seen.err + seen.out


def test_data_verify_lists_on_stdout_and_complains_on_stderr(desk: Path) -> None:
    seen = seft_bench("data", "verify")
    assert_user_error(seen, "official file missing", str(desk / "cache"))
    assert [line.split("\t")[0] for line in seen.out.splitlines()] == ["missing"] * len(OFFICIAL_FILES)


def test_fresh_deletes_a_run_and_nothing_else(desk: Path) -> None:
    (desk / "mine").mkdir()
    (desk / "mine" / "thesis.tex").write_text("years of work")
    assert_user_error(seft_bench("train", "--out", "mine", "--fresh"), "mine", "thesis.tex", "Delete it yourself")
    assert (desk / "mine" / "thesis.tex").exists()


def test_an_unreachable_judge_is_not_the_users_mistake(desk: Path) -> None:
    """Exit status 6: the same command goes on later."""
    (desk / "gone.yaml").write_text(
        "name: gone\nkind: openai\nmodel: m\nbase_url: http://127.0.0.1:9/v1\napi_key_env: null\ntemplates: "
        "seft-bench\nmax_attempts: 1\n"
    )
    seen = seft_bench("eval", "tiny", "--judge", "gone.yaml")
    assert seen.status == 6
    assert "127.0.0.1:9" in seen.err
    assert "Traceback" not in seen.err
