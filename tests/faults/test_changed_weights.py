"""A local server that serves other weights under the same name: a figure is of one set of weights, or says that it is
not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from seft_bench import config
from seft_bench.files import read_log, write_jsonl
from seft_bench.records import Answer, to_row
from seft_bench.suites import load_suite
from tests.faults.chat_server import ChatServer, Handler, completion, status, token_completion
from tests.integration.cli import Seen, good, seft_bench

QUESTIONS = 6


def weights(logprob: float, score: int) -> Handler:
    """One set of weights: what it says to the fixed prompt, and the grade that it gives to everything."""

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        found = (
            token_completion({"Once": logprob, "A": -1.6}, "Once")
            if body.get("logprobs")
            else completion(f"Rating: [[{score}]]")
        )
        return web.json_response(found)

    return answer


OLD, NEW = weights(-0.3, 4), weights(-0.9, 8)


def load(server: ChatServer, handler: Handler) -> None:
    server.fingerprint = server.otherwise = handler


@pytest.fixture(autouse=True)
def _files(desk: Path, server: ChatServer) -> None:
    """A suite, ready answers to it, and a judge behind the server."""
    shipped = yaml.safe_load((config.config_folder() / "suites" / "tiny-mtbench.yaml").read_text())
    Path("suite.yaml").write_text(yaml.safe_dump(shipped | {"name": "small", "max_questions": QUESTIONS}))
    judge = {
        "name": "local",
        "kind": "openai",
        "model": "judge",
        "base_url": server.url,
        "api_key_env": None,
        "templates": "seft-bench",
        "max_attempts": 1,
    }
    Path("judge.yaml").write_text(yaml.safe_dump(judge))
    write_jsonl(
        Path("answers.jsonl"),
        [to_row(Answer("small", q.id, "mine", ("text",) * len(q.turns))) for q in load_suite("suite.yaml").questions()],
    )


def evaluate(*more: str) -> Seen:
    return seft_bench("eval", "answers.jsonl", "--suite", "suite.yaml", "--judge", "judge.yaml", "--json", *more)


def row_of(seen: Seen) -> dict[str, Any]:
    [row] = json.loads(good(seen).out)
    return dict(row)


def judgments() -> Path:
    [path] = Path("runs").rglob("judgments-*.jsonl")
    return path


def drop_last(count: int) -> int:
    """Lose so many judgments; returns how many there were."""
    lines = judgments().read_text().splitlines(keepends=True)
    judgments().write_text("".join(lines[:-count]))
    return len(lines)


def mixed(row: dict[str, Any]) -> bool:
    return any("2 sets of weights" in note for note in row["notes"])


def test_missing_judgments_are_not_filled_up_by_other_weights(desk: Path, server: ChatServer) -> None:
    load(server, OLD)
    assert row_of(evaluate())["metrics"]["score"] == 4
    wanted = drop_last(2)
    load(server, NEW)
    before = len(server.bodies)
    seen = evaluate()
    row = row_of(seen)
    assert (row["metrics"]["score"], mixed(row)) == (8, False)
    assert len(server.bodies) - before == wanted + 1  # with the probe
    assert f"other weights now than when it gave {wanted - 2} verdicts" in " ".join(seen.err.split())


def test_unchanged_weights_fill_up_only_what_is_missing(desk: Path, server: ChatServer) -> None:
    load(server, OLD)
    row_of(evaluate())
    drop_last(2)
    Path("runs/store.sqlite").unlink()
    before = len(server.bodies)
    assert row_of(evaluate())["metrics"]["score"] == 4
    assert len(server.bodies) - before == 2 + 1


def test_a_complete_set_of_verdicts_needs_no_server(desk: Path, server: ChatServer) -> None:
    load(server, OLD)
    row_of(evaluate())
    load(server, status(500))
    before = len(server.bodies)
    assert row_of(evaluate())["metrics"]["score"] == 4
    assert len(server.bodies) == before


def test_a_rerun_that_was_cut_off_goes_on_with_the_weights_of_its_verdicts(desk: Path, server: ChatServer) -> None:
    load(server, OLD)
    row_of(evaluate())
    old = judgments().read_text().splitlines(keepends=True)
    drop_last(1)
    load(server, NEW)
    row_of(evaluate())
    new = judgments().read_text().splitlines(keepends=True)[len(old) - 1 :]
    judgments().write_text(
        "".join([*old, *new[:-3]])
    )  # as a kill leaves it: the last of the new verdicts never came, the old ones stand behind
    row = row_of(evaluate("--stage", "score"))
    assert mixed(row)
    assert any("WARNING" in note for note in row["notes"])
    row = row_of(evaluate())
    assert (row["metrics"]["score"], mixed(row)) == (8, False)
    assert len(read_log(judgments())) == len(old) + len(new)


def test_the_first_weights_come_back_without_being_asked_twice(desk: Path, server: ChatServer) -> None:
    load(server, OLD)
    row_of(evaluate())
    for handler, score in ((NEW, 8), (OLD, 4)):
        drop_last(1)
        load(server, handler)
        before = len(server.bodies)
        assert row_of(evaluate())["metrics"]["score"] == score
    assert len(server.bodies) - before == 1  # the probe; the replies are in the store


def test_models_judged_by_other_weights_of_one_name_are_not_compared(desk: Path, server: ChatServer) -> None:
    for model, handler in (("mine", OLD), ("yours", NEW), ("theirs", NEW)):
        load(server, handler)
        questions = load_suite("suite.yaml").questions()
        write_jsonl(
            Path("answers.jsonl"), [to_row(Answer("small", q.id, model, (model,) * len(q.turns))) for q in questions]
        )
        assert evaluate().status == 0
    seen = seft_bench("check", "mine", "--against", "yours", "--suite", "suite.yaml")
    assert seen.status == 5
    assert "weights behind the judge's server differ" in seen.err
    assert seft_bench("check", "theirs", "--against", "yours", "--suite", "suite.yaml").status == 0


def test_agreement_asked_again_takes_verdicts_of_one_set_of_weights(desk: Path, server: ChatServer) -> None:
    def ask() -> dict[str, Any]:
        seen = seft_bench(
            *("judges", "consistency", "--ask", "judge.yaml", "--answers", "answers.jsonl", "--suite", "suite.yaml"),
            *("--prompts", "4", "--out", "grades.jsonl", "--json"),
        )
        assert seen.status == 0, seen.err
        return dict(json.loads(seen.out))

    load(server, OLD)
    ask()
    lines = Path("grades.jsonl").read_text().splitlines(keepends=True)
    Path("grades.jsonl").write_text("".join(lines[:-1]))
    load(server, NEW)
    ask()
    rows = read_log(Path("grades.jsonl"))
    assert [row["score"] for row in rows] == [4.0] * (len(lines) - 1) + [8.0] * len(lines)
