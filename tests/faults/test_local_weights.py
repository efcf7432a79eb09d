"""Two checkpoints behind one name and root of one server never share a stored reply; one that stays is never paid for
twice.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from seft_bench.errors import ServiceUnavailableError
from seft_bench.inference.client import ChatClient
from seft_bench.inference.store import ResponseStore
from seft_bench.inference.weights import fingerprint_local_weights, rounded_logprobs
from tests.faults.asking import Run, generate
from tests.faults.chat_server import ChatServer, Handler, completion, serving, status, token_completion


def weights(first: float = -0.3, text: str = "Once upon a time", logprobs: bool = True) -> Handler:
    """One set of weights: with any prompt, likeliest tokens if the server gives them, and a text."""

    async def answer(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        if logprobs and body.get("logprobs"):
            return web.json_response(token_completion({"Once": first, "A": -1.6}, "Once"))
        return web.json_response(completion(f"{text}. Rating: [[7]]"))

    return answer


def load(server: ChatServer, handler: Handler) -> None:
    """Other weights in place: name, root and version stay."""
    server.fingerprint = server.otherwise = handler


def fingerprint(server: ChatServer, given: str = "") -> str:
    client = ChatClient(server.url, "judge", None, None, weights_fingerprint=given)
    fingerprint_local_weights(client)
    return client.weights_fingerprint


def test_weights_loaded_in_place_are_told_apart_by_what_they_do(tmp_path: Path) -> None:
    store = ResponseStore(tmp_path / "store.sqlite")
    with serving() as server:
        for handler, asked, answered in (
            (weights(-0.3), 1, 5),
            (weights(-0.3), 1, 5),
            (weights(-0.5), 2, 10),
            (weights(-0.3), 2, 10),
        ):
            load(server, handler)
            Run(server, store)()
            generate(server.url, store)
            judged = [body for body in server.bodies if body["model"] == "judge"]
            assert (len(judged), len(server.bodies) - len(judged)) == (asked, answered)
    assert store.stats()["responses"] == 12


def test_one_judge_object_notices_weights_that_change_under_it(tmp_path: Path) -> None:
    with serving() as server:
        run = Run(server, ResponseStore(tmp_path / "store.sqlite"))
        load(server, weights(-0.3))
        (first,) = run()
        load(server, weights(-0.5))
        (second,) = run()
        assert len(server.bodies) == 2
    assert first.details["weights_fingerprint"] != second.details["weights_fingerprint"]


def test_an_unchanged_server_serves_from_the_store_after_a_restart(tmp_path: Path) -> None:
    with serving(otherwise=weights()) as server:
        load(server, weights())
        for _ in range(3):
            with ResponseStore(tmp_path / "store.sqlite") as store:
                Run(server, store)()
                generate(server.url, store)
        assert len(server.bodies) == 1 + 5
    assert {body["temperature"] for body in server.fingerprints} == {0.0}


def test_noise_below_the_rounding_changes_nothing_and_zero_has_one_sign() -> None:
    with serving() as server:
        server.fingerprint = weights(-0.31)
        first = fingerprint(server)
        server.fingerprint = weights(-0.29)
        assert fingerprint(server) == first
        server.fingerprint = weights(0.0)
        zero = fingerprint(server)
        server.fingerprint = weights(-0.01)
        assert fingerprint(server) == zero != first


def test_without_log_probabilities_a_greedy_text_tells_weights_apart() -> None:
    refuses = status(400, "logprobs is not supported")

    async def no_logprobs(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await (refuses if body.get("logprobs") else weights(text="Long ago"))(request, body)

    with serving() as server:
        seen = []
        for handler in (
            weights(logprobs=False),
            weights(logprobs=False),
            weights(text="It was night", logprobs=False),
            no_logprobs,
        ):
            server.fingerprint = handler
            seen.append(fingerprint(server))
    assert seen[0] == seen[1]
    assert len(set(seen)) == 3


def test_another_engine_version_is_another_fingerprint() -> None:
    with serving() as server:
        seen = []
        for version in (None, "0.11.0", "0.11.1", "0.11.1"):
            server.version = version
            seen.append(fingerprint(server))
    assert len(set(seen)) == 3
    assert seen[2] == seen[3]


def test_a_local_checkpoint_folder_counts_by_its_contents(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"one")
    with serving() as server:
        server.models = [{"id": "judge", "root": str(tmp_path)}]
        first, again = fingerprint(server), fingerprint(server)
        (tmp_path / "model.safetensors").write_bytes(b"other")
        assert again == first != fingerprint(server)


def test_a_server_that_cannot_say_now_stops_the_run_rather_than_share(tmp_path: Path) -> None:
    with serving() as server:
        server.fingerprint = status(500)
        with pytest.raises(ServiceUnavailableError, match="does not say which weights"):
            Run(server, ResponseStore(tmp_path / "store.sqlite"))()
        assert server.bodies == []


def test_a_server_that_refuses_the_fixed_prompt_is_used_and_noted() -> None:
    with serving() as server:
        server.fingerprint = status(400, "no stories here")
        run = Run(server)
        assert run()[0].status == "ok"
    assert ["no stories here" in note for note in run.judge.notes] == [True]


def test_a_given_fingerprint_and_a_provider_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-not-a-real-key")
    with serving() as server:
        assert fingerprint(server, given="mine") == "mine"
        Run(server, api_key_env="JUDGE_KEY")()
        assert server.fingerprints == []


def test_a_judge_that_takes_other_parameters_asks_in_them() -> None:
    with serving() as server:
        Run(server, max_tokens_parameter="max_completion_tokens")()
    assert all("max_tokens" not in body and body["max_completion_tokens"] for body in server.fingerprints)


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"choices": []},
        {"choices": [{"logprobs": None}]},
        {"choices": [{"logprobs": {"content": [{"token": "a"}]}}]},
    ],
)
def test_broken_log_probabilities_are_none(broken: dict[str, Any]) -> None:
    assert rounded_logprobs(json.loads(json.dumps(broken))) == []


@pytest.mark.parametrize("code", [400, 403, 422])
def test_a_server_that_refuses_logprobs_is_measured_by_its_words(code: int) -> None:
    async def refusing(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        refused = status(code, "Unrecognized request argument supplied: logprobs, which is not allowed to request")
        return await (refused if "logprobs" in body else weights(logprobs=False))(request, body)

    with serving() as server:
        load(server, refusing)
        first = fingerprint(server)
        load(server, weights(logprobs=False))
        assert fingerprint(server) == first != ""


@pytest.mark.parametrize(
    "listed",
    [
        "[" * 100_000,
        '"text"',
        "{}",
        '{"data": 5}',
        '{"data": [5, {"id": ["judge"]}]}',
        '{"data": [{"id": "\\ud83d"}]}',
        '{"data": [{"id": "judge", "root": "/\\u0000"}]}',
        json.dumps({"data": [{"id": "judge", "root": "/" + "a" * 5000}]}),
    ],
)
def test_an_odd_listing_of_models_is_no_reason_to_end_a_run(listed: str) -> None:
    with serving() as server:
        server.listed = listed
        assert len(fingerprint(server)) == 16
        assert Run(server)()[0].status == "ok"
