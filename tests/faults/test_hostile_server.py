"""Servers that send what no server should: one request has a status, the run goes on, memory and secrets are safe."""

from __future__ import annotations

import functools
import gzip
import json
import resource
import traceback
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from seft_bench.errors import InputError, SeftBenchError, ServiceUnavailableError
from seft_bench.inference.addresses import address_of
from seft_bench.inference.budget import Budget, BudgetSpentError, meter, worst_tokens
from seft_bench.inference.prices import Price
from seft_bench.inference.store import ResponseStore
from seft_bench.inference.transport import MOST_BODY_BYTES
from tests.faults.asking import KEY, Run, generate
from tests.faults.chat_server import Handler, body_of, completion, serving, status
from tests.faults.judge_run import requests
from tests.faults.raw_server import Sent, response, sending

GOOD = json.dumps(completion("Rating: [[7]]")).encode()
CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)


def keyed(server: Any, store: ResponseStore | None = None, **settings: Any) -> Run:
    """A judge with a key, whose server is not asked which weights it has."""
    return Run(server, store, api_key_env="JUDGE_KEY", **settings)


@pytest.mark.parametrize(
    "sent",
    [
        lambda: [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
        lambda: [b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x64"],  # HTTP/2's first frame
        lambda: [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"],
        lambda: [CHUNKED + b"ffff\r\n{"],
        lambda: [CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n"],
        lambda: [CHUNKED + b"-5\r\n{}\r\n0\r\n\r\n"],
        lambda: [b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 100_000 + b"\r\n\r\n"],
        lambda: [b"HTTP/1.1 99999 What\r\n\r\n"],
        lambda: [b""],
        response(b"\xff\xfe\x00\x01" * 50),
        response(b"<html><body>Sign in</body></html>", Content_Type="text/html"),
        response(b"data: {}\n\ndata: [DONE]\n\n", Content_Type="text/event-stream"),
        response(b"x" * 100, Content_Encoding="gzip"),
        response(b"", "204 No Content"),
        response(b"{}", Content_Type="application/json; charset=nonsense"),
    ],
)
def test_what_is_no_completion_is_an_api_error(sent: Sent, store: ResponseStore) -> None:
    with sending(sent) as server:
        (judgment,) = keyed(server, store)()
    assert (judgment.status, judgment.score, len(server.requests)) == ("api_error", None, 6)
    assert store.stats()["responses"] == 0


@pytest.mark.parametrize(
    "sent",
    [
        response(GOOD, Content_Type="text/plain; charset=nonsense"),
        response(b"\xef\xbb\xbf" + GOOD),
        response(gzip.compress(GOOD), Content_Encoding="gzip"),
        response(GOOD.replace(b"Rating", b"A\x00\n raw control. Rating")),
        response(GOOD.replace(b"Rating", b"\xf0\x9f\xa6 cut. Rating")),
        response(GOOD.replace(b"Rating", b"long " * 200_000 + b"Rating")),
        response(GOOD, "201 Created"),
    ],
)
def test_a_completion_in_odd_clothes_is_read(sent: Sent, store: ResponseStore) -> None:
    with sending(sent) as server:
        (judgment,) = keyed(server, store)()
        (again,) = keyed(server, store)()
    assert (judgment.score, again.score, again.raw == judgment.raw, len(server.requests)) == (7.0, 7.0, True, 1)


@pytest.mark.parametrize(
    ("base_url", "said"),
    [
        ("http://127.0.0.1:1/v1", "no connection to http://127.0.0.1:1/v1"),
        ("http://no-such-host.invalid/v1", "no connection to"),
    ],
)
def test_addresses_where_nobody_is(base_url: str, said: str) -> None:
    with serving() as server:
        run = keyed(server)
        run.client.address = address_of(base_url)
        with pytest.raises(ServiceUnavailableError, match=said):
            run()
        run.client.address = address_of(server.url.replace("http:", "https:"))
        with pytest.raises(ServiceUnavailableError, match="no connection to https:"):
            run()


def endless() -> Iterator[bytes]:
    yield b'HTTP/1.1 200 OK\r\nContent-Length: 1500000000\r\n\r\n{"choices": "'
    for _ in range(1500):
        yield b"x" * 1_000_000


@functools.cache
def packed() -> bytes:
    packer = zlib.compressobj(wbits=31)
    return b"".join(packer.compress(b" " * 1_000_000) for _ in range(100)) + packer.flush()


def bomb() -> Iterator[bytes]:
    body = packed()
    yield f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize("sent", [endless, bomb])
def test_a_body_of_gigabytes_does_not_fill_the_memory(sent: Sent, store: ResponseStore) -> None:
    packed()
    with sending(sent) as server:
        run = keyed(server, store, timeout_seconds=60.0)
        run.client.max_attempts = 1
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        (judgment,) = run()
        grown_megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert (judgment.status, "more than 16 MB" in judgment.raw) == ("api_error", True)
    assert grown_megabytes < 10 * MOST_BODY_BYTES / 2**20
    assert server.bytes_taken < 100_000_000


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("same_host", [False, True])
def test_prompts_and_keys_are_not_sent_on(code: int, same_host: bool) -> None:
    with serving() as other, serving() as server:
        there = "/v1/elsewhere" if same_host else f"{other.url}/chat/completions"
        server.otherwise = status(code, "gone", Location=there)
        run = keyed(server, max_in_flight=1)
        with pytest.raises(
            InputError, match=rf"redirects to .*{'elsewhere' if same_host else 'completions'}.*base_url"
        ):
            run(*requests(3))
        assert (len(server.bodies), other.bodies, other.headers) == (1, [], [])


@pytest.mark.parametrize(
    ("usage", "is_believed"),
    [
        ({"prompt_tokens": 100, "completion_tokens": 10}, True),
        ({"prompt_tokens": float("nan"), "completion_tokens": float("nan")}, False),
        ({"prompt_tokens": -(10**9), "completion_tokens": -(10**9)}, False),
        ({"prompt_tokens": "many", "completion_tokens": True}, False),
        ({"prompt_tokens": 10**40, "completion_tokens": 1e308}, False),
        ({"prompt_tokens": 0, "completion_tokens": 0}, False),
        ({"prompt_tokens": [], "completion_tokens": {}}, False),
        ("none", None),
        (None, None),
    ],
)
def test_counts_of_tokens_that_cannot_be_are_no_counts(usage: Any, is_believed: bool, store: ResponseStore) -> None:
    with serving(otherwise=body_of(completion() | {"usage": usage})) as server:
        run = Run(server, store)
        judgments = run(*requests(3)) + Run(server, store)(*requests(3))
    assert [judgment.status for judgment in judgments] == ["ok"] * 6
    assert {(item.prompt_tokens, item.completion_tokens) for item in judgments} == {
        (100, 10) if is_believed else (None, None)
    }
    assert sum("cannot be" in note for note in run.judge.notes) == (1 if is_believed is False else 0)


@pytest.mark.parametrize("count", [-(10**9), float("nan"), "none", 0, None, float("-inf"), False])
def test_a_budget_ends_whatever_the_server_counts(count: Any, store: ResponseStore) -> None:
    price = Price(1000.0, 2000.0, None, "test")
    with serving(
        otherwise=body_of(completion() | {"usage": {"prompt_tokens": count, "completion_tokens": count}})
    ) as server:
        run = keyed(server, store, max_in_flight=1, max_tokens=50)
        (call,) = run.judge.calls(requests(1)[0])
        worst = price.usd(*worst_tokens(call.messages, call.sampling)) or 0.0
        budget = Budget(5.5 * worst)
        meter(run.client, price, budget)
        with pytest.raises(BudgetSpentError, match="without counts of tokens that can be"):
            run(*requests(45))
    assert len(server.bodies) == 5
    assert 0 < budget.spent_usd <= 5.5 * worst


ECHOES = {
    "plain": KEY,
    "JSON escapes": "".join(f"\\u{ord(character):04x}" for character in KEY),
    "one JSON escape": f"\\u0073{KEY[1:]}",
    "percent": f"%73{KEY[1:]}",
    "markup": f"{KEY[:6]}<b>{KEY[6:9]}</b>{KEY[9:]}",
    "stars": f"{KEY[:6]}**{KEY[6:9]}**{KEY[9:]}",
    "entity": f"&#x73;{KEY[1:]}",
    "zero width": f"{KEY[:6]}\u200b{KEY[6:]}",
    "a line break": f"{KEY[:6]}\n{KEY[6:]}",
    "Basic": "dXNlcjpzay1ub3QtYS1yZWFsLWtleS0xMjM0NQ==",
}


def escaped_in_json(echo: str) -> str:
    """A completion whose JSON holds the text with its key's first letter as an escape."""
    return json.dumps(completion(f"You sent {echo}. Rating: [[4]]")).replace("sk-", "\\u0073k-")


@pytest.mark.parametrize("echo", ECHOES.values(), ids=ECHOES.keys())
@pytest.mark.parametrize("kind", ["text", "error", "model", "parts"])
def test_a_key_in_any_form_reaches_no_record(echo: str, kind: str, store: ResponseStore) -> None:
    halves = [{"type": "text", "text": part} for part in (f"Rating: [[4]] {echo[:9]}", echo[9:])]
    handlers: dict[str, Handler] = {
        "text": body_of(escaped_in_json(echo)),
        "error": status(400, json.dumps({"error": {"message": f"bad header Bearer {echo}"}})),
        "model": body_of(completion("Rating: [[4]]", model=f"judge {echo}")),
        "parts": body_of(completion(message={"content": halves})),
    }
    with serving(otherwise=handlers[kind]) as server:
        run = keyed(server, store)
        judgments = run() + keyed(server, store)()
    store.close()
    kept = " ".join(map(str, judgments)) + " ".join(run.judge.notes) + store.path.read_bytes().decode(errors="replace")
    assert "[key]" in kept
    for form in (echo, KEY, KEY[9:]):
        assert form not in kept
        assert json.dumps(form)[1:-1] not in kept


@pytest.mark.parametrize("said", [status(401, f"bad key {KEY}"), status(402, KEY), status(404, f"no {KEY}")])
def test_no_exception_and_none_behind_it_shows_a_key(said: Handler) -> None:
    with serving(otherwise=said) as server, pytest.raises(SeftBenchError) as caught:
        keyed(server)()
    shown = "".join(traceback.format_exception(caught.value))
    assert "[key]" in shown
    assert KEY not in shown


def test_a_password_in_the_address_is_sent_and_never_shown(store: ResponseStore) -> None:
    with serving(status(500), status(400, "not this: hunter2-long"), status(401, "no: hunter2-long")) as server:
        run = Run(server, store)
        run.client.address = address_of(server.url.replace("//", "//me:hunter2-long@"))
        first = run()
        with pytest.raises(InputError) as caught:
            run(*requests(2))
        assert server.headers[0]["Authorization"] == "Basic bWU6aHVudGVyMi1sb25n"
    said = f"{first} {caught.value} {run.judge.id} {run.client.base_url}"
    assert "hunter2" not in said
    assert "me:" not in said
    assert "[key]" in said


def test_a_reply_of_a_served_model_is_as_safe_as_a_judges(store: ResponseStore) -> None:
    text = json.dumps(completion("half \ud83d of a pair", model="pol\ud83dicy"))
    with serving(otherwise=body_of(text)) as server:
        answers = generate(server.url, store)
        assert {turn for answer in answers for turn in answer.turns} == {"half \ufffd of a pair"}
        assert generate(server.url, store) == answers
        assert len(server.bodies) == 5


def test_prompts_with_half_a_surrogate_pair_can_be_asked_and_kept(store: ResponseStore) -> None:
    (request,) = requests(1)
    odd = type(request)("grade", request.question, 1, ("half \ud83d of a pair, a \x00, and \u202eright to left",))
    with serving() as server:
        scores = [Run(server, store)(odd)[0].score for _ in range(2)]
        assert (scores, len(server.bodies)) == ([7.0, 7.0], 1)
