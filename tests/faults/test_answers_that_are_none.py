"""What comes in place of an answer, and what comes before it: counted beside the figure, never judged as an answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from seft_bench.files import read_log, write_jsonl
from tests.faults.chat_server import ChatServer, Handler, completion
from tests.integration.cli import Seen, good, seft_bench

QUESTIONS = [
    {"id": f"q{number}", "category": "writing", "turns": [f"Name river {number}.", "Another, please."]}
    for number in range(1, 5)
]
Replies = Callable[[dict[str, Any]], web.Response]


@pytest.fixture(autouse=True)
def _files(desk: Path, server: ChatServer) -> None:
    """A suite of four questions of two turns, and a judge."""
    write_jsonl(desk / "questions.jsonl", QUESTIONS)
    suite = {
        "name": "talk",
        "kind": "mtbench",
        "source": "files",
        "questions": "questions.jsonl",
        "default_judge": "local-openai",
        "max_new_tokens": 256,
        "decodings": {"greedy": {"temperature": 0.0}},
        "description": "Four.",
    }
    judge = {"name": "mine", "kind": "openai", "model": "judge", "base_url": server.url, "api_key_env": None}
    (desk / "suite.yaml").write_text(yaml.safe_dump(suite))
    (desk / "judge.yaml").write_text(yaml.safe_dump(judge | {"templates": "seft-bench", "max_attempts": 1}))


def is_judged(body: dict[str, Any]) -> bool:
    return "grade the assistant's answer" in body["messages"][-1]["content"]


def answering(reply: Replies) -> Handler:
    """A server that answers questions with `reply`, and grades all answers with 7."""

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(completion()) if is_judged(body) else reply(body)

    return answer


def says(text: str, finish_reason: str = "stop", **message: Any) -> Replies:
    return lambda body: web.json_response(completion(text, finish_reason=finish_reason, message=message))


def evaluated(server: ChatServer, reply: Replies | None = None, *arguments: str) -> Seen:
    """`eval` of the served model."""
    if reply:
        server.otherwise = answering(reply)
    return seft_bench(
        *("eval", "policy", "--server", server.url, "--suite", "suite.yaml", "--judge", "judge.yaml", "--yes"),
        *("--json", *arguments),
    )


def result_of(seen: Seen) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(seen.out)[0]
    return row


def rows(desk: Path, name: str = "answers.jsonl") -> list[dict[str, Any]]:
    return [row for path in (desk / "runs").rglob(name) for row in read_log(path)]


def judged(server: ChatServer) -> set[str]:
    """The prompts of judgments, but for the probe's own."""
    found = {body["messages"][-1]["content"] for body in server.bodies if is_judged(body)}
    return {prompt for prompt in found if "river" in prompt}


def test_a_prompt_that_does_not_fit_is_no_empty_answer(desk: Path, server: ChatServer) -> None:
    why = "maximum context length is 300 tokens"

    def fits_one(body: dict[str, Any]) -> web.Response:
        return says("The Rhine.")(body) if "river 4" in str(body) else web.Response(status=400, text=why)

    seen = good(evaluated(server, fits_one), 5)
    row = result_of(seen)
    assert (row["withheld"], row["n_scored"], row["answers"]["coverage"]) == (True, 2, 0.25)
    assert row["answers"]["statuses"] == {"ok": 2, "over_length": 6}
    assert any(why in note and "max_new_tokens is 256" in note for note in row["notes"])
    assert "judge the rest" not in seen.err
    assert [one["question_id"] for one in rows(desk)] == ["q4"]
    assert len(rows(desk, "judgments-*.jsonl")) == 2
    assert [one["statuses"] for one in rows(desk, "unanswered.jsonl")] == [["over_length", "over_length"]] * 3
    asked = len(server.bodies)

    row = result_of(good(evaluated(server, says("The Rhine."))))  # asked again, as soon as it can be answered
    assert (row["withheld"], row["answers"]["statuses"]) == (False, {"ok": 8})
    assert len(server.bodies) > asked
    again = len(server.bodies)
    good(evaluated(server))
    assert len(server.bodies) == again


def test_a_second_turn_that_does_not_fit_leaves_the_first_judged(desk: Path, server: ChatServer) -> None:
    def second_too_long(body: dict[str, Any]) -> web.Response:
        too_long = len(body["messages"]) > 1
        return web.Response(status=413, text="too long") if too_long else says("The Rhine.")(body)

    row = result_of(good(evaluated(server, second_too_long), 5))
    assert row["answers"]["statuses"] == {"ok": 4, "over_length": 4}
    assert (row["n_scored"], row["metrics"]["turn_1"], row["metrics"].get("turn_2")) == (4, 7.0, None)
    good(evaluated(server), 5)
    assert len(rows(desk, "unanswered.jsonl")) == 4  # the same thing is recorded once


def test_answers_cut_before_a_word_are_counted_and_the_limit_is_named(desk: Path, server: ChatServer) -> None:
    row = result_of(good(evaluated(server, says("", "length", reasoning_content="Rivers, hm."))))
    assert row["answers"]["cut_share"] == row["answers"]["empty_share"] == 1.0
    [note] = [note for note in row["notes"] if "cut" in note]
    assert note.startswith("WARNING: 8 of 8 answers were cut")
    assert "max_new_tokens (256)" in note
    assert rows(desk)[0]["reasoning"] == ["Rivers, hm."] * 2
    assert json.loads(next((desk / "results").rglob("result.json")).read_text())["answers"]["cut_share"] == 1.0


def test_a_filtered_answer_is_final_and_counted(desk: Path, server: ChatServer) -> None:
    def filters_one(body: dict[str, Any]) -> web.Response:
        refused = "river 2" in body["messages"][-1]["content"]
        return web.Response(status=400, text='{"code": "content_filter"}') if refused else says("The Rhine.")(body)

    row = result_of(good(evaluated(server, filters_one)))
    assert (row["answers"]["refused"], row["answers"]["statuses"]) == (1, {"ok": 7, "refused": 1})
    assert any("refused or filtered: q2" in note for note in row["notes"])
    assert [one["statuses"] for one in rows(desk) if one["question_id"] == "q2"] == [["refused", "ok"]]


def test_an_error_in_place_of_an_answer_is_never_kept_as_one(desk: Path, server: ChatServer) -> None:
    def fails(body: dict[str, Any]) -> web.Response:
        failed = completion("The an", finish_reason="error", error={"code": 400, "message": "the provider broke"})
        return web.json_response(failed) if "river 3" in str(body["messages"]) else says("The Rhine.")(body)

    seen = evaluated(server, fails)
    assert seen.status == 6
    assert "the provider broke" in seen.err
    assert [one["question_id"] for one in rows(desk)] == ["q1", "q2", "q4"]
    assert result_of(good(evaluated(server, says("The Rhine."))))["answers"]["statuses"] == {"ok": 8}


@pytest.mark.parametrize(
    ("text", "apart"),
    [
        ("<think>\nRivers. [[1]]\n</think>\n\nThe Rhine.", {}),
        ("Rivers. [[1]]\n</think>\n\nThe Rhine.", {}),
        ("[THINK]Rivers. [[1]][/THINK]The Rhine.", {}),
        ("The Rhine.", {"reasoning_content": "Rivers. [[1]]"}),
    ],
)
def test_reasoning_is_kept_and_neither_judged_nor_fed_back(
    desk: Path, server: ChatServer, text: str, apart: dict[str, str]
) -> None:
    row = result_of(good(evaluated(server, says(text, **apart))))
    assert not any("[[1]]" in prompt for prompt in judged(server))
    assert len(rows(desk, "judgments-*.jsonl")) == 8
    assert not any("[[1]]" in str(body["messages"]) for body in server.bodies)
    kept = rows(desk)[0]
    assert kept["turns"] == ["The Rhine."] * 2
    assert "[[1]]" in kept["reasoning"][1]
    assert any(note.startswith("4 answers come with reasoning") for note in row["notes"])


def test_reasoning_is_judged_where_the_decoding_keeps_it(desk: Path, server: ChatServer) -> None:
    good(evaluated(server, says("<think>Rivers. [[1]]</think>The Rhine.")))
    suite = yaml.safe_load((desk / "suite.yaml").read_text())
    suite["decodings"]["greedy"]["reasoning"] = "keep"
    (desk / "suite.yaml").write_text(yaml.safe_dump(suite))
    good(evaluated(server))
    assert sum("[[1]]" in prompt for prompt in judged(server)) == 8
    assert rows(desk)[-1]["turns"][0] == "<think>Rivers. [[1]]</think>The Rhine."


def test_an_answer_of_an_earlier_version_stays_valid(desk: Path, server: ChatServer) -> None:
    good(evaluated(server, says("<think>Rivers. [[1]]</think>The Rhine.")))
    [path] = (desk / "runs").rglob("answers.jsonl")
    old = [
        {key: value for key, value in row.items() if key not in ("statuses", "reasoning", "why")} for row in rows(desk)
    ]
    write_jsonl(path, [row | {"turns": ["<think>Rivers. [[1]]</think>The Rhine.", "The Rhine."]} for row in old])
    asked = len(server.bodies)
    row = result_of(good(evaluated(server)))
    assert len(server.bodies) == asked  # the same texts as before, once the reasoning is apart
    assert row["answers"]["statuses"] == {"ok": 8}


# Files


def from_file(name: str, found: list[dict[str, Any]], status: int = 0) -> dict[str, Any]:
    write_jsonl(Path(name), found)
    arguments = ("--suite", "suite.yaml", "--judge", "judge.yaml", "--yes", "--json")
    return result_of(good(seft_bench("eval", name, *arguments), status))


def fastchat(*turns: str, number: int, **more: Any) -> dict[str, Any]:
    return {"question_id": f"q{number}", "model_id": "m", "choices": [{"index": 0, "turns": list(turns)}], **more}


def test_fastchats_error_mark_is_no_answer(server: ChatServer) -> None:
    found = [fastchat("$ERROR$", "$ERROR$", number=1), fastchat("Rhine.", "$ERROR$", number=2)]
    found += [fastchat("$ERROR$", "Rhine.", number=3), fastchat("Rhine.", "Main.", number=4)]
    row = from_file("mine.jsonl", found, 5)
    assert not any("$ERROR$" in prompt for prompt in judged(server))
    assert (row["n_scored"], row["answers"]["statuses"]) == (3, {"api_error": 5, "ok": 3})
    assert any("5 of 8 answers are none (5 api_error: q1, q2, q3)" in note for note in row["notes"])


def test_empty_texts_of_a_file_are_judged_and_counted(server: ChatServer) -> None:
    found = [fastchat("", " \n", number=1), *[fastchat("Rhine.", "Main.", number=number) for number in (2, 3, 4)]]
    row = from_file("mine.jsonl", found)
    assert (row["n_scored"], row["answers"]["empty_share"]) == (8, 0.25)
    assert any("2 of 8 answers are empty: q1" in note for note in row["notes"])


def test_reasoning_in_a_file_is_not_judged(server: ChatServer) -> None:
    thought = "<think>Rivers. [[1]]</think>The Rhine."
    from_file("mine.jsonl", [fastchat(thought, thought, number=number) for number in (1, 2, 3, 4)])
    assert judged(server)
    assert not any("[[1]]" in prompt for prompt in judged(server))


def test_what_does_not_fit_the_questions_is_counted_and_named(server: ChatServer) -> None:
    found = [fastchat("Rhine.", "Main.", number=number) for number in (1, 2, 3, 4, 2, 9)]
    found[0]["choices"].append({"index": 1, "turns": ["Oder.", "Elbe."]})
    notes = from_file("mine.jsonl", found)["notes"]
    assert "1 answers match no question of the suite and are left out: q9." in notes
    assert "1 questions are answered more than once; the last row counts: q2." in notes
    assert any(note.startswith("1 rows hold more than one choice; the first counts") for note in notes)


# What one command says of reasoning and chat templates


def test_template_arguments_of_a_command_reach_the_server_under_a_name_of_their_own(
    desk: Path, server: ChatServer
) -> None:
    good(evaluated(server, says("The Rhine."), "--template-args", "enable_thinking=false"))
    asked = [body for body in server.bodies if body["model"] == "policy" and not is_judged(body)]
    assert {str(body.get("chat_template_kwargs")) for body in asked} == {"{'enable_thinking': False}"}
    good(evaluated(server))  # beside the other, not over it
    names = {json.loads(path.read_text())["decoding"] for path in (desk / "results").rglob("result.json")}
    assert names == {"greedy", "greedy+enable_thinking-false"}
    assert len({one["decoding_hash"] for one in rows(desk)}) == 2
    before = len(server.bodies)
    good(evaluated(server, None, "--template-args", "enable_thinking=false"))
    assert len(server.bodies) == before


def test_a_command_keeps_the_reasoning_of_a_file(desk: Path, server: ChatServer) -> None:
    thought = "<think>Rivers. [[1]]</think>The Rhine."
    write_jsonl(desk / "mine.jsonl", [fastchat(thought, thought, number=number) for number in (1, 2, 3, 4)])
    asked = ("eval", "mine.jsonl", "--suite", "suite.yaml", "--judge", "judge.yaml", "--yes", "--json")
    row = result_of(good(seft_bench(*asked, "--reasoning", "keep")))
    assert any("[[1]]" in prompt for prompt in judged(server))
    assert not any("come with reasoning" in note for note in row["notes"])
    assert result_of(good(seft_bench(*asked)))["answers"]["statuses"] == {"ok": 8}
    assert len(list((desk / "results").rglob("result.json"))) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--reasoning", "drop"), "'strip' or 'keep'"),
        (("--template-args", "enable_thinking"), "enable_thinking"),
        (("--template-args", "tokenize=true"), "tokenize: no argument that can be given to a chat template"),
    ],
)
def test_wrong_words_about_them_are_refused_before_anything_is_sent(
    server: ChatServer, arguments: tuple[str, ...], words: str
) -> None:
    seen = good(evaluated(server, says("The Rhine."), *arguments), 2)
    assert words in seen.err
    assert not [body for body in server.bodies if is_judged(body)]


def test_a_file_of_answers_has_no_chat_template(desk: Path) -> None:
    write_jsonl(desk / "mine.jsonl", [fastchat("Rhine.", "Main.", number=1)])
    asked = ("eval", "mine.jsonl", "--suite", "suite.yaml", "--judge", "judge.yaml", "--template-args", "a=1")
    assert "leave them out" in good(seft_bench(*asked), 2).err
