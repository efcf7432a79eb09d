"""What real servers say, through the command line: what stops a run, what does not, and whether trying again helps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from seft_bench.errors import InputError, ServiceUnavailableError
from seft_bench.inference import client
from seft_bench.inference.store import ResponseStore
from seft_bench.records import JudgeRequest, Question
from tests.faults.asking import KEY, Run
from tests.faults.chat_server import ChatServer, Handler, body_of, completion, ok, serving, status
from tests.faults.judge_run import requests
from tests.integration.cli import Seen, good, seft_bench

QUESTIONS = ["Greet me.", "Name a baker.", "Tell me a very long story of the sea, and of the land behind it.", "Add."]


def error(http_status: int, message: str, **more: Any) -> Handler:
    return status(http_status, json.dumps({"error": {"message": message, **more}}))


def lay_out(desk: Path, url: str, **judge: Any) -> None:
    """A suite of four questions, ready answers, a judge and a served model's settings."""
    rows = [{"id": str(number), "category": "any", "turns": [text]} for number, text in enumerate(QUESTIONS)]
    (desk / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    suite = {
        "name": "four",
        "kind": "mtbench",
        "source": "files",
        "questions": "questions.jsonl",
        "description": "Four.",
    }
    suite |= {"default_judge": "local-openai"}
    write(desk / "suite.yaml", suite | {"decodings": {"greedy": {"temperature": 0.0}}, "max_new_tokens": 64})
    answers = [
        {"question_id": str(number), "model_id": "mine", "choices": [{"index": 0, "turns": [f"Answer {number}."]}]}
        for number in range(len(QUESTIONS))
    ]
    (desk / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    settings = {"name": "their", "kind": "openai", "model": "judge", "base_url": url, "api_key_env": "JUDGE_KEY"}
    write(desk / "judge.yaml", settings | {"templates": "seft-bench", "max_in_flight": 1, "max_attempts": 1} | judge)


def write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(values))


@pytest.fixture(autouse=True)
def _desk(desk: Path, server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    lay_out(desk, server.url)


def judge_answers() -> Seen:
    return seft_bench("eval", "answers.jsonl", "--suite", "suite.yaml", "--judge", "judge.yaml")


def test_no_money_under_way_stops_with_its_reason_and_the_rest_is_judged_later(server: ChatServer) -> None:
    server.script, server.otherwise = [ok, ok, ok], error(402, "Insufficient Balance")
    seen = good(judge_answers(), 6)
    assert "Insufficient Balance" in seen.err
    assert "once there is some, the same command goes on" in seen.err
    assert len(server.bodies) == 4  # a probe, two verdicts, and the one that was not paid
    server.otherwise = ok
    good(judge_answers())
    assert len(server.bodies) == 4 + 1 + 2


def test_a_prompt_that_moderation_flags_is_one_refused_judgment(server: ChatServer) -> None:
    async def moderated(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        flagged = error(403, "Your chosen model requires moderation and your input was flagged", code=403)
        return await (flagged if "baker" in body["messages"][-1]["content"] else ok)(request, body)

    server.otherwise = moderated
    for _ in range(2):
        seen = good(judge_answers(), 5)
        assert "1 of 4 judgments are unscored (1 refused)" in seen.err
        assert "1 were refused for what they say: another judge may take them." in seen.err
        assert "Run the same command again" not in seen.err


def test_a_refused_key_says_why_in_the_servers_words(server: ChatServer) -> None:
    server.otherwise = error(403, f"Country not supported {KEY}")
    seen = good(judge_answers(), 2)
    assert "Country not supported [key]). Check the variable JUDGE_KEY" in seen.err
    assert len(server.bodies) == 1


def test_a_context_without_room_is_said_at_the_probe_with_max_tokens(server: ChatServer) -> None:
    server.otherwise = error(400, "maximum context length is 2048 tokens and your request has 30 input tokens")
    seen = good(judge_answers(), 2)
    assert "a reply may have 2048 tokens, and the context has 2048" in seen.err
    assert "Set a smaller `max_tokens` in the judge's YAML" in seen.err
    server.otherwise = error(400, "too many tokens")  # one that names no limit
    assert "no room for the prompts and a reply of 2048 tokens" in good(judge_answers(), 2).err
    assert len(server.bodies) == 1 + 2


def test_the_probe_asks_what_the_run_will_ask(server: ChatServer) -> None:
    good(judge_answers())
    probe, *judged = server.bodies
    assert {key: value for key, value in probe.items() if key != "messages"} == {
        key: value for key, value in judged[0].items() if key != "messages"
    }
    assert "a very long story of the sea" in probe["messages"][-1]["content"]
    assert max(judged, key=lambda body: len(str(body["messages"])))["messages"][0] == probe["messages"][0]


def test_a_longest_prompt_that_alone_does_not_fit_is_said_and_the_rest_judged(server: ChatServer) -> None:
    async def short(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        is_long = "story of the sea" in body["messages"][-1]["content"]
        return await (error(400, "prompt is too long") if is_long else ok)(request, body)

    server.otherwise = short
    seen = good(judge_answers(), 5)
    assert "no room for the longest prompt and a reply of 2048 tokens" in seen.err
    assert "1 prompts are too long for the judge: it needs a larger context or a smaller `max_tokens`." in seen.err
    assert len(server.bodies) == 2 + 4


def test_a_judge_whose_words_stand_apart_is_refused_at_the_probe(server: ChatServer) -> None:
    server.otherwise = body_of(completion(message={"content": None, "reasoning_content": "Fine. Rating: [[7]]"}))
    seen = good(judge_answers(), 2)
    assert "content of its reply is null or empty" in seen.err
    assert "`reasoning_content`" in seen.err
    assert len(server.bodies) == 1


def test_an_azure_address_keeps_its_query_and_gets_its_header(desk: Path, server: ChatServer) -> None:
    lay_out(desk, f"{server.url}?api-version=2024-10-21", api_key_header="api-key")
    good(judge_answers())
    assert {(headers.get("api-key"), headers.get("Authorization")) for headers in server.headers} == {(KEY, None)}
    assert set(server.queries) == {"api-version=2024-10-21"}
    lay_out(desk, server.url, api_version="2025-01-01", headers={"X-Team": "ours"}, name="other")
    good(judge_answers())
    assert (server.queries[-1], server.headers[-1]["X-Team"]) == ("api-version=2025-01-01", "ours")


def test_a_password_in_the_address_is_printed_nowhere(desk: Path, server: ChatServer) -> None:
    lay_out(desk, server.url.replace("//", "//me:hunter2-long@"), api_key_env=None)
    seen = good(judge_answers())
    shown = seft_bench("judges", "show", "judge.yaml")
    probed = seft_bench("judges", "probe", "judge.yaml")
    server.otherwise = error(500, "hunter2-long me:hunter2-long@")
    failed = seft_bench("judges", "probe", "judge.yaml")
    assert failed.status == 6
    dry = seft_bench("eval", "m", "--server", f"{server.url.replace('//', '//me:hunter2-long@')}", "--suite",
                     "suite.yaml", "--judge", "judge.yaml", "--dry-run")  # fmt: skip
    for said in (seen, shown, probed, failed, dry):
        assert "hunter2" not in said.out + said.err
        assert "me:" not in said.out + said.err
    (desk / "judge.yaml").unlink()
    for path in desk.rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes(), path


@pytest.fixture
def model(desk: Path) -> Iterator[ChatServer]:
    with serving(otherwise=body_of(completion("An answer.", model="gpt"))) as served:
        yield served


def answer(server: str) -> Seen:
    arguments = ("eval", "gpt", "--server", server, "--suite", "suite.yaml", "--judge", "judge.yaml")
    return seft_bench(*arguments, "--yes")


async def like_gpt5(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    if "max_tokens" in body:
        return await error(400, "Unsupported parameter: 'max_tokens' is not supported with this model.")(request, body)
    if "temperature" in body:
        return await error(400, "Unsupported value: 'temperature' does not support 0 with this model.")(request, body)
    return await body_of(completion("An answer.", model="gpt"))(request, body)


def test_a_served_model_has_the_settings_of_a_judge(desk: Path, model: ChatServer) -> None:
    model.otherwise = model.fingerprint = like_gpt5
    settings: dict[str, Any] = {"base_url": model.url, "api_key_env": "JUDGE_KEY"}
    said = [good(seft_bench("eval", "gpt", "--server", model.url, "--server-key-env", "JUDGE_KEY", "--suite",
                            "suite.yaml", "--judge", "judge.yaml"), 2).err]  # fmt: skip
    for more in ({"max_tokens_parameter": "max_completion_tokens"}, {"send_temperature": False}):
        settings |= more
        write(desk / "server.yaml", settings)
        seen = answer("server.yaml")
        said.append(seen.err)
    assert "max_tokens_parameter: max_completion_tokens" in said[0]
    assert "`send_temperature: false`" in said[1]
    assert seen.status == 0, seen.err
    assert len(model.bodies) == 1 + 1 + 4
    sent = model.bodies[-1]
    assert (sent["max_completion_tokens"], "temperature" in sent, "top_p" in sent, "seed" in sent) == (
        64,
        False,
        False,
        True,
    )


def test_a_parameter_that_every_request_has_is_refused_once_without_a_key_too(model: ChatServer) -> None:
    model.otherwise = model.fingerprint = like_gpt5
    assert "max_tokens_parameter: max_completion_tokens" in good(answer(model.url), 2).err
    assert (len(model.bodies), len(model.fingerprints)) == (0, 1)


def test_other_settings_are_other_answers_and_stand_in_the_result(desk: Path, model: ChatServer) -> None:
    good(answer(model.url))
    plain_folders = set((desk / "runs" / "evaluations").iterdir())
    write(desk / "plain.yaml", {"base_url": model.url})
    good(answer("plain.yaml"))
    assert set((desk / "runs" / "evaluations").iterdir()) == plain_folders
    count = len(model.bodies)
    write(desk / "other.yaml", {"base_url": model.url, "extra_body": {"top_k": 5}, "send_seed": False})
    good(answer("other.yaml"))
    assert len(set((desk / "runs" / "evaluations").iterdir())) == 2
    assert len(model.bodies) == 2 * count
    assert (model.bodies[-1]["top_k"], "seed" in model.bodies[-1]) == (5, False)
    (path,) = (desk / "results").rglob("result.json")
    kept = json.loads(path.read_text())["manifest"]["config"]["server_settings"]
    assert kept == {"send_seed": False, "extra_body": {"top_k": 5}}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "base_url: is missing"),
        ({"base_url": "here"}, "not an address of a server: 'here'"),
        ({"base_url": "http://h", "headers": {"Authorization": "Bearer x"}}, "holds a key"),
        ({"base_url": "http://h", "headers": {"a b": "x"}}, "no header"),
        ({"base_url": "http://h", "extra_body": {"messages": []}}, "fixed by the protocol"),
        ({"base_url": "http://h", "model": "m"}, "unknown key"),
        ({"base_url": "http://u:long-password@h", "api_key_env": "JUDGE_KEY"}, "leave one of them out"),
    ],
)
def test_settings_of_a_server_that_are_wrong(desk: Path, settings: dict[str, Any], said: str) -> None:
    write(desk / "server.yaml", settings)
    seen = good(answer("server.yaml"), 2)
    assert said in seen.err
    assert "long-password" not in seen.err


def test_a_model_without_room_stops_with_the_servers_words(model: ChatServer) -> None:
    model.otherwise = error(400, "maximum context length is 32 tokens and your request has 7 input tokens")
    seen = good(answer(model.url), 2)
    assert "a reply may have 64 tokens, and the context has 32" in seen.err
    assert "Set a smaller `max_new_tokens` of the suite" in seen.err


# A judge that degrades half-way


def test_a_judge_that_degrades_gets_a_pause_and_then_the_run_ends(store: ResponseStore) -> None:
    with serving(*[ok] * 5, otherwise=status(503, "overloaded")) as server:
        run = Run(server, store, max_in_flight=1, api_key_env="JUDGE_KEY")
        with pytest.raises(ServiceUnavailableError, match=r"in a row .*overloaded.*run the same command again later"):
            run(*requests(100))
        assert pytest.approx(client.PAUSE_SECONDS) in run.time.slept
        assert len(run.judgments) == 5 + client.FAILURES_IN_A_ROW_TO_STOP - 1
        server.otherwise = ok
        assert {item.status for item in Run(server, store, api_key_env="JUDGE_KEY")(*requests(100))} == {"ok"}


def test_a_pause_may_be_all_that_a_judge_needs() -> None:
    with serving(*[status(500)] * (6 * client.FAILURES_IN_A_ROW_TO_PAUSE)) as server:
        run = Run(server, max_in_flight=1, api_key_env="JUDGE_KEY")
        found = [item.status for item in run(*requests(20))]
    assert sorted(found) == ["api_error"] * 10 + ["ok"] * 10


def test_refusals_of_everything_end_the_run_as_nothing_that_waiting_would_mend() -> None:
    with serving(*[ok] * 3, otherwise=status(400, "this account is asleep")) as server:
        run = Run(server, max_in_flight=1, api_key_env="JUDGE_KEY")
        with pytest.raises(InputError, match=r"refused 20 requests in a row .*asleep"):
            run(*requests(100))
        assert len(server.bodies) == 3 + client.FAILURES_IN_A_ROW_TO_STOP


def test_one_long_conversation_of_many_does_not_stop_a_check() -> None:
    long = JudgeRequest("grade", Question("mtbench", "long", "", ("Go on.",)), 1, ("word " * 400,))

    async def short(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        is_long = len(body["messages"][-1]["content"]) > 1500
        return await (status(413) if is_long else ok)(request, body)

    with serving(otherwise=short) as server:
        run = Run(server, api_key_env="JUDGE_KEY")
        run.judge.check(["grade"], [long, *requests(3)])
        assert len(server.bodies) == 2
        with pytest.raises(InputError, match="no room"):
            run.judge.check(["grade"], [long] * 3)
