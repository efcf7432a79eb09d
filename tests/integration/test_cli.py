"""The commands when all is well: what is printed where, what is written, and that doing it again adds nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from seft_bench import __version__
from seft_bench.config import config_folder
from tests.faults.chat_server import ChatServer, body_of, serving, status, token_completion
from tests.integration.cli import QUICK, REPOSITORY, good, seft_bench
from tests.small_matrix import cells_here

KEY = "sk-secret-3f9c1d7a55e0"
COMMANDS = [
    [],
    ["demo"], ["bench"], ["train"], ["eval"], ["score"], ["check"], ["export"], ["import"], ["leaderboard"], ["doctor"],
    ["judges"], ["judges", "list"], ["judges", "show"], ["suites"], ["suites", "list"], ["suites", "show"],
    ["methods"], ["methods", "list"], ["methods", "show"],
    ["data"], ["data", "list"], ["data", "verify"], ["data", "make"],
]  # fmt: skip
ROW_KEYS = {"model", "suite", "metrics", "n", "n_scored", "n_unscored", "coverage", "withheld"}


def write_yaml(path: Path, **values: Any) -> str:
    path.write_text(yaml.safe_dump(values))
    return str(path)


def small_suite(desk: Path, name: str, questions: int) -> str:
    """A shipped tiny suite with its first questions only, answered greedily."""
    shipped = yaml.safe_load((config_folder() / "suites" / f"{name}.yaml").read_text())
    small = shipped | {
        "name": f"{name}-{questions}",
        "max_questions": questions,
        "decodings": {"greedy": {"temperature": 0.0}},
        "max_new_tokens": 8,
    }
    return write_yaml(desk / f"{name}-{questions}.yaml", **small)


def small_judge(desk: Path, url: str, key_variable: str | None = None, **more: Any) -> str:
    settings = {
        "name": "small",
        "kind": "openai",
        "model": "judge",
        "base_url": url,
        "api_key_env": key_variable,
        "templates": "seft-bench",
        "max_attempts": 1,
    }
    return write_yaml(desk / "small.yaml", **settings | more)


# Help and lists


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help(command: list[str]) -> None:
    seen = good(seft_bench(*command, "--help"))
    assert f"Usage: {' '.join(['seft-bench', *command])} " in seen.out
    assert seen.err == ""


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['seft-bench', '--help']\nfrom seft_bench.cli.main import main\ntry: main()\nexcept "
        "SystemExit: print(sorted(sys.modules))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.splitlines()[-1]
    assert "'typer'" in printed
    assert not [
        name for name in ("torch", "transformers", "numpy", "pandas", "aiohttp", "pydantic") if f"'{name}'" in printed
    ]


def test_version() -> None:
    assert good(seft_bench("--version")).out == f"seft-bench {__version__}\n"


@pytest.mark.parametrize(("kind", "name"), [("judges", "rubric"), ("suites", "tiny-mtbench"), ("methods", "seft")])
def test_lists_name_what_show_explains(kind: str, name: str) -> None:
    names = [line.split("\t")[0] for line in good(seft_bench(kind, "list")).out.splitlines()]
    assert name in names
    for listed in names:
        shown = json.loads(good(seft_bench(kind, "show", listed)).out)
        assert shown.get("name", shown.get("method")) == listed


def test_methods_show_names_stages_and_defaults() -> None:
    shown = json.loads(seft_bench("methods", "show", "seft").out)
    assert [stage["name"] for stage in shown["stages"]][:4] == ["start", "preliminary-reviser", "labels", "reviser"]
    assert shown["settings"]["decision"] == "likelihood"


def test_doctor_names_keys_but_never_shows_one(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    found = json.loads(good(seft_bench("doctor", "--json")).out)
    assert "OPENAI_API_KEY" in found["keys_set"]
    text = good(seft_bench("doctor")).out
    assert "OPENAI_API_KEY" in text
    assert KEY not in text + json.dumps(found)


def test_data_make_writes_the_tinyworld(desk: Path) -> None:
    folder = Path(
        good(
            seft_bench("data", "make", "--out", "data", "--seed", "3", "--only", "sft", "--only", "prompts")
        ).out.strip()
    )
    assert folder.parent == Path("data")
    assert {path.name for path in folder.iterdir()} == {"sft.jsonl", "prompts.jsonl", "manifest.json"}
    assert {"prompt", "answer"} <= json.loads((folder / "sft.jsonl").read_text().splitlines()[0]).keys()


def test_the_plan_of_a_matrix(desk: Path) -> None:
    plan = json.loads(good(seft_bench("bench", "tinyworld", "--dry-run", "--seeds", "4,5", "--json")).out)
    assert {cell["state"] for cell in plan["cells"]} == {"to run"}
    assert {cell["cell"].rpartition("-")[2] for cell in plan["cells"]} == {"seed4", "seed5"}
    assert plan["to_run"] == [cell["cell"] for cell in plan["cells"]]
    assert list(desk.iterdir()) == []


# Train, then evaluate


def test_from_training_to_the_leaderboard(desk: Path) -> None:
    """The bare road on the shipped base: every stage of SEFT, both suites, then again, which adds nothing."""
    trained = good(seft_bench("train", *QUICK))
    checkpoints = [Path(line) for line in trained.out.split()]
    assert [path.name for path in checkpoints] == ["step-000001", "step-000002"]
    assert all(
        (path / name).is_file()
        for path in checkpoints
        for name in ("model.safetensors", "config.json", "tokenizer.json")
    )
    assert "CPU seconds" in trained.err

    suites = [part for name in ("tiny-mtbench", "tiny-alpacaeval") for part in ("--suite", small_suite(desk, name, 8))]
    rows = json.loads(good(seft_bench("eval", *suites, "--json")).out)
    assert [(row["model"], row["suite"], row["n"], row["withheld"]) for row in rows] == [
        (f"tiny-seft/{path.name}", *suite, False)
        for path in checkpoints
        for suite in (("tiny-mtbench-8", 16), ("tiny-alpacaeval-8", 8))
    ]
    assert all(row.keys() >= ROW_KEYS and row["n_scored"] == row["n"] and row["coverage"] == 1.0 for row in rows)
    assert 1 <= rows[0]["metrics"]["score"] <= 10
    assert 0 <= rows[1]["metrics"]["win_rate"] <= 100

    before = _contents(desk)
    assert good(seft_bench("train", *QUICK)).out == trained.out
    assert json.loads(good(seft_bench("eval", *suites, "--json")).out) == rows
    after = _contents(desk)
    changed = {path.name for path in after.keys() | before.keys() if after.get(path) != before.get(path)}
    locks = {name for name in changed if name.endswith(".lock")}  # they say who held them last
    assert changed - locks <= {"result.json"}  # its manifest says when it was scored

    leaderboard = good(seft_bench("leaderboard")).out
    assert leaderboard == (desk / "results" / "leaderboard.md").read_text() + "\n"
    assert "tiny-seft/step-000002" in leaderboard
    assert {path.suffix for path in (desk / "results").glob("leaderboard.*")} == {
        ".md",
        ".csv",
        ".html",
        ".tex",
        ".json",
    }
    json.loads(good(seft_bench("leaderboard", "--format", "json")).out)


def test_another_recipe_never_overwrites_a_run(desk: Path) -> None:
    good(seft_bench("train", "method=sft", "settings.start.max_steps=2", "--out", "run"))
    seen = seft_bench("train", "method=sft", "seed=1", "settings.start.max_steps=2", "--out", "run")
    assert seen.status == 2
    assert "another recipe" in seen.err
    assert "--fresh" in seen.err
    assert good(
        seft_bench("train", "method=sft", "seed=1", "settings.start.max_steps=2", "--out", "run", "--fresh")
    ).out
    assert yaml.safe_load(Path("run/recipe.yaml").read_text())["seed"] == 1


def _contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts}


# A model of one's own, and a judge behind a server


def test_own_checkpoint_and_own_judge(desk: Path, tiny_model: Path, server: ChatServer) -> None:
    """16 grades of [[7]] from a real server; the second time nothing is sent.

    With all judgments deleted, the response store answers.
    """
    arguments = [
        "eval",
        str(tiny_model),
        "--suite",
        small_suite(desk, "tiny-mtbench", 8),
        "--judge",
        small_judge(desk, server.url),
        "--json",
    ]
    [row] = json.loads(good(seft_bench(*arguments)).out)
    assert (row["model"], row["n_scored"], row["metrics"]["score"], row["metrics"]["turn_2"]) == ("tiny", 16, 7.0, 7.0)
    probe, *asked = server.bodies
    assert probe["max_tokens"] == asked[0]["max_tokens"]  # it asks as the run will
    assert 0 < len(asked) <= 16  # equal prompts are asked once
    assert all(body["messages"][-1]["content"] for body in asked)

    [again] = json.loads(good(seft_bench(*arguments)).out)
    assert again == row
    assert server.bodies[1 + len(asked) :] == []

    for path in (desk / "runs" / "evaluations").rglob("judgments-*.jsonl"):
        path.unlink()
    [from_store] = json.loads(good(seft_bench(*arguments)).out)
    assert from_store["metrics"] == row["metrics"]
    assert len(server.bodies[1 + len(asked) :]) == 1, "the probe alone, which asks what this run would"


def test_steps_can_be_run_one_by_one(desk: Path, tiny_model: Path, server: ChatServer) -> None:
    suite, judge = small_suite(desk, "tiny-mtbench", 4), small_judge(desk, server.url)
    arguments = ["eval", str(tiny_model), "--suite", suite, "--judge", judge]
    assert good(seft_bench(*arguments, "--stage", "answer")).out == ""
    assert server.bodies == []
    assert good(seft_bench(*arguments, "--stage", "judge")).out == ""
    assert not (desk / "results").exists()
    [row] = json.loads(good(seft_bench(*arguments, "--stage", "score", "--json")).out)
    assert row["metrics"]["score"] == 7.0


def test_judging_needs_answers_first(desk: Path, tiny_model: Path, server: ChatServer) -> None:
    arguments = [
        "eval",
        str(tiny_model),
        "--suite",
        small_suite(desk, "tiny-mtbench", 4),
        "--judge",
        small_judge(desk, server.url),
    ]
    seen = seft_bench(*arguments, "--stage", "judge")
    assert seen.status == 2
    assert "--stage answer" in seen.err


def test_too_few_grades_are_withheld(desk: Path, tiny_model: Path) -> None:
    """The judge fails after the probe and six grades of 16: status 5, and the figures are marked.

    The same command asks for the rest.
    """
    suite = small_suite(desk, "tiny-mtbench", 8)
    answer = yaml.safe_load(Path(suite).read_text())
    assert answer["max_questions"] == 8
    with serving(*[_grade] * 7, otherwise=_mumble) as server:
        arguments = [
            "eval",
            str(tiny_model),
            "--suite",
            suite,
            "--judge",
            small_judge(desk, server.url, max_in_flight=1),
            "--json",
        ]
        seen = seft_bench(*arguments)
        [row] = json.loads(seen.out)
        assert (seen.status, row["withheld"], row["n"]) == (5, True, 16)
        assert 0 < row["n_scored"] < 16
        assert row["n_scored"] + row["n_unscored"] == 16
        assert "WITHHELD tiny" in seen.err
        server.otherwise = _grade
        [row] = json.loads(good(seft_bench(*arguments)).out)
        assert (row["withheld"], row["n_scored"]) == (False, 16)


async def _grade(request: Any, body: dict[str, Any]) -> Any:
    from tests.faults.chat_server import ok

    return await ok(request, body)


async def _mumble(request: Any, body: dict[str, Any]) -> Any:
    from aiohttp import web

    from tests.faults.chat_server import completion

    return web.json_response(completion("I would rather not say."))


def test_a_key_is_used_and_shows_up_nowhere(
    desk: Path, tiny_model: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    judge = small_judge(desk, server.url, "MY_KEY")
    seen = good(seft_bench("eval", str(tiny_model), "--suite", small_suite(desk, "tiny-mtbench", 4), "--judge", judge))
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {KEY}"}
    leaks = [path for path, data in _contents(desk).items() if KEY.encode() in data]
    assert not leaks
    assert KEY not in seen.out + seen.err
    assert (desk / "runs" / "store.sqlite").is_file()


@pytest.mark.parametrize("code", [401, 403, 500])
def test_a_refused_key_shows_up_nowhere(
    desk: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    with serving(otherwise=status(code, f"no: {KEY}")) as server:
        seen = seft_bench(
            "eval",
            str(tiny_model),
            "--suite",
            small_suite(desk, "tiny-mtbench", 4),
            "--judge",
            small_judge(desk, server.url, "MY_KEY"),
        )
    assert seen.status == (6 if code == 500 else 2)
    assert "Traceback" not in seen.err
    assert KEY not in seen.out + seen.err
    assert not [path for path, data in _contents(desk).items() if KEY.encode() in data]


def test_a_model_behind_a_server(desk: Path, server: ChatServer) -> None:
    seen = good(
        seft_bench("eval", "judge", "--server", server.url, "--suite", small_suite(desk, "tiny-mtbench", 4), "--json")
    )
    [row] = json.loads(seen.out)
    assert (row["model"], row["n_scored"]) == ("judge", 8)
    assert len(server.bodies[-1]["messages"]) == 3  # the second turn is asked with the first answer before it


def test_other_weights_behind_the_same_server_are_answered_and_judged_anew(desk: Path, server: ChatServer) -> None:
    command = (
        "eval",
        "judge",
        "--server",
        server.url,
        "--suite",
        small_suite(desk, "tiny-mtbench", 4),
        "--judge",
        small_judge(desk, server.url),
    )
    good(seft_bench(*command))
    paid = len(server.bodies)
    good(seft_bench(*command))
    assert len(server.bodies) == paid  # the same weights: nothing is asked again
    server.fingerprint = body_of(token_completion({"Other": -0.2}, "Other"))
    good(seft_bench(*command))
    assert len(server.bodies) == 2 * paid == 2 * (8 + 1 + 8)  # answers, the judge's probe, grades


def test_ready_answers(desk: Path) -> None:
    """Two models' answers in one file: the reference writer's own, and none worth having."""
    from seft_bench.data.official import tinyworld_questions

    questions = tinyworld_questions("alpacaeval")[:8]
    rows = [
        {"instruction": question.turns[0], "output": question.reference[0], "generator": "writer"}
        for question in questions
    ]
    rows += [{"instruction": question.turns[0], "output": "um", "generator": "mumbler"} for question in questions]
    (desk / "answers.json").write_text(json.dumps(rows))
    found = json.loads(
        good(seft_bench("eval", "answers.json", "--suite", small_suite(desk, "tiny-alpacaeval", 8), "--json")).out
    )
    figures = {row["model"]: row["metrics"]["win_rate"] for row in found}
    assert figures["writer"] == 50.0
    assert figures["mumbler"] < 20.0


# Real files


def test_score_of_official_files(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEFT_BENCH_DATA_DIR", str(shared_data / "official"))
    [answers] = (shared_data / "examples" / "alpaca_eval").rglob("model_outputs.json")
    [judgments] = answers.parent.rglob("annotations.json")
    arguments = ["--answers", str(answers), "--judgments", str(judgments)]
    [row] = json.loads(good(seft_bench("score", "--suite", "alpacaeval", *arguments, "--json")).out)
    official = json.loads((shared_data / "alpaca_eval" / "expected.json").read_text())["gemma-2b-it"][
        "official_leaderboard"
    ]
    assert row.keys() >= ROW_KEYS
    assert row["metrics"].keys() >= {
        "win_rate",
        "win_rate_se",
        "discrete_win_rate",
        "lc_win_rate",
        "lc_low",
        "lc_high",
        "avg_length",
    }
    assert row["metrics"]["win_rate"] == pytest.approx(official["win_rate"], abs=1e-6)
    assert row["metrics"]["lc_win_rate"] == pytest.approx(official["length_controlled_winrate"], abs=0.15)


def test_score_of_fastchats_judgments(shared_data: Path, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight models in one file, two of them withheld: figures of all on stdout, exit status 5."""
    import gzip

    monkeypatch.setenv("SEFT_BENCH_DATA_DIR", str(shared_data / "official"))
    (desk / "gpt-4_single.jsonl").write_bytes(
        gzip.decompress((shared_data / "mt_bench" / "judgments_single.jsonl.gz").read_bytes())
    )
    seen = seft_bench("score", "--suite", "mtbench", "--judgments", "gpt-4_single.jsonl", "--json")
    rows = json.loads(seen.out)
    assert seen.status == 5
    assert len(rows) == 8
    assert all(
        row["metrics"].keys() >= {"score", "turn_1", "turn_2", "se", "low", "high", "by_category", "score_fastchat"}
        for row in rows
    )
    withheld = {row["model"] for row in rows if row["withheld"]}
    assert withheld == {"granite-7b-lab", "mistral-7b_dolphin_orca_labonne_dpo"}
    assert all(f"WITHHELD {model}" in seen.err for model in withheld)


def test_data_verify_accepts_the_official_files(shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEFT_BENCH_DATA_DIR", str(shared_data / "official"))
    states = {line.split("\t")[1]: line.split("\t")[0] for line in seft_bench("data", "list").out.splitlines()}
    assert states["mt_bench/question.jsonl"] == "ok"
    assert states["alpaca_eval/alpaca_eval_gpt4_baseline.json"] == "ok"


# A matrix, end to end and small


def test_a_matrix_resumes_and_goes_on_after_a_failure(desk: Path) -> None:
    """One row asks for more prompts than its data has, which shows when the data is there.

    The other is finished, and only the failed one is tried again.
    """
    suite = small_suite(desk, "tiny-mtbench", 4)
    start = {"start": {"max_steps": 2}}
    rows = [
        {"name": "start", "method": "sft", "role": "start", "settings": start},
        {
            "name": "greedy-for-prompts",
            "method": "seft",
            "settings": start | {"decision": "never", "prompts": 99999, "policy": {"max_steps": 2}},
        },
    ]
    matrix = write_yaml(
        desk / "small.yaml", name="small", base="tinyworld", seeds=[0], suites=[suite], rows=rows, checkpoints=1
    )
    command = ["bench", matrix, "--out", "out"]
    with cells_here():
        first = good(seft_bench(*command), status=1)
    assert "FAILED greedy-for-prompts-seed0: prompts: 99999 are asked for" in first.err
    assert "Traceback" not in first.err
    plan = seft_bench("bench", matrix, "--out", "out", "--dry-run")
    assert [line.split()[0] + " " + line.split()[-1] for line in plan.out.splitlines()[1:3]] == [
        "start-seed0 finished",
        "greedy-for-prompts-seed0 failed",
    ]
    assert "greedy-for-prompts-seed0 failed: prompts: 99999 are asked for" in plan.out

    write_yaml(
        desk / "small.yaml", name="small", base="tinyworld", seeds=[0], suites=[suite], rows=rows[:1], checkpoints=1
    )
    second = good(seft_bench(*command))
    assert "nothing to do" in second.err
    assert "start" in second.out
    page = (desk / "out" / "results" / "leaderboard.md").read_bytes()
    assert seft_bench(*command).out == second.out
    assert (desk / "out" / "results" / "leaderboard.md").read_bytes() == page
