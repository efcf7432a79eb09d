"""Human votes as they are published: asked for with the official templates, and read from the hub's data set."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from seft_bench.files import read_log
from seft_bench.judge_quality.votes import answers_in_votes
from tests.faults.chat_server import completion, serving
from tests.integration.cli import REPOSITORY, seft_bench


def test_official_templates_show_both_turns_in_both_orders(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real questions, answers and votes: a judge that always says [[A]] is inconsistent everywhere, and its probe needs
    no AlpacaEval prompt.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEFT_BENCH_DATA_DIR", str(shared_data / "official"))

    async def always_first(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(completion("The first is better. [[A]]"))

    folder = shared_data / "mt_bench"
    with serving(otherwise=always_first) as server:
        Path("mine.yaml").write_text(
            f"name: mine\nkind: openai\nmodel: judge\nbase_url: {server.url}\napi_key_env: null\n"
        )
        files = (
            "--votes",
            str(folder / "human_votes.jsonl.gz"),
            "--answers",
            str(folder / "answers_humanvote_models.jsonl.gz"),
        )
        seen = seft_bench("judges", "agreement", *files, "--ask", "mine.yaml", "--limit", "60", "--json")
        bodies = server.bodies[1:]
    found = json.loads(seen.out)
    assert seen.status == 0
    assert (found["position"]["n_first"], found["position"]["consistent"]["mean"], found["biased"]["position"]) == (
        60,
        0.0,
        True,
    )
    rows = [row for path in tmp_path.glob("runs/agreement/*.jsonl") for row in read_log(path)]
    templates = {row["details"]["template"] for row in rows}
    assert templates == {"pair-v2", "pair-math-v1", "pair-v2-multi-turn", "pair-math-v1-multi-turn"}
    assert len(bodies) == 120
    assert all((body["temperature"], body["max_tokens"]) == (0.0, 2048) for body in bodies)


def test_answers_are_taken_from_votes_that_hold_the_conversations(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "one"},
        {"role": "user", "content": "r"},
        {"role": "assistant", "content": "two"},
    ]
    row = {
        "judge": "expert_1",
        "question_id": 81,
        "turn": 1,
        "model_a": "m",
        "model_b": "n",
        "winner": "tie",
        "conversation_a": turns,
        "conversation_b": turns[:2],
    }
    (tmp_path / "votes.jsonl").write_text(json.dumps(row) + "\n")
    assert {(answer.model_id, answer.turns) for answer in answers_in_votes(tmp_path / "votes.jsonl")} == {
        ("m", ("one", "two")),
        ("n", ("one",)),
    }


def test_the_documented_line_turns_the_hubs_parquet_into_votes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow", reason="PYARROW ABSENT: reading parquet needs it")
    import pandas

    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "one"}]
    row = {
        "judge": "expert_1",
        "question_id": 81,
        "turn": 1,
        "model_a": "m",
        "model_b": "n",
        "winner": "tie",
        "conversation_a": turns,
        "conversation_b": turns,
    }
    monkeypatch.chdir(tmp_path)
    pandas.DataFrame([row]).to_parquet("human.parquet")
    page = (REPOSITORY / "docs" / "add-a-judge.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    exec(line, {})
    assert {(answer.model_id, answer.turns) for answer in answers_in_votes(Path("human_votes.jsonl"))} == {
        ("m", ("one",)),
        ("n", ("one",)),
    }
