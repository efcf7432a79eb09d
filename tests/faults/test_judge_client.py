"""Each way in which a judge's server can fail, against a real local server: nothing is lost, nothing is scored that was
not said.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from seft_bench.errors import InputError, ServiceUnavailableError
from seft_bench.inference.client import FAILURES_IN_A_ROW_TO_STOP
from seft_bench.inference.prices import Price
from seft_bench.inference.store import ResponseStore
from seft_bench.records import JudgeRequest, Judgment, Question
from tests.faults.asking import KEY, PAIR, Run
from tests.faults.chat_server import (
    after,
    body_of,
    completion,
    cut,
    drip,
    ok,
    serving,
    status,
    token_completion,
)
from tests.faults.judge_run import requests


def test_a_good_reply_becomes_a_judgment(store: ResponseStore) -> None:
    with serving() as server:
        (judgment,) = Run(server, store, price=Price(10.0, 30.0, None, "test"))()
    assert (judgment.status, judgment.score, judgment.model_id, judgment.returned_model) == (
        "ok",
        7.0,
        "model",
        "judge",
    )
    assert judgment.price_usd == pytest.approx(100 * 10e-6 + 10 * 30e-6)
    assert server.bodies[0]["temperature"] == 0.0
    assert server.bodies[0]["max_tokens"] == 2048
    assert "model" not in server.bodies[0]["messages"][1]["content"].lower()  # the judge is not told whose answer it is


def test_an_unknown_price_stays_unknown() -> None:
    with serving() as server:
        assert Run(server)()[0].price_usd is None


def test_stored_replies_cost_nothing(store: ResponseStore) -> None:
    with serving() as server:
        Run(server, store)(*requests(3))
        again = Run(server, store)(*requests(4))
    assert len(server.bodies) == 4
    assert [judgment.price_usd for judgment in again].count(0.0) == 3
    assert {judgment.score for judgment in again} == {7.0}


def test_equal_requests_are_sent_once() -> None:
    with serving() as server:
        judgments = Run(server)(*requests(1), *requests(1))
    assert len(judgments) == 2
    assert len(server.bodies) == 1


def test_429_with_retry_after_waits_as_told() -> None:
    with serving(status(429, Retry_After="7")) as server:
        run = Run(server)
        (judgment,) = run()
    assert judgment.status == "ok"
    assert run.time.slept == [7.0]
    assert run.client.limit.width == pytest.approx(8.125)  # 10 x 0.8, then one success a round trip


def test_429_with_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=30)
    with serving(status(429, Retry_After=format_datetime(moment, usegmt=True))) as server:
        run = Run(server)
        assert run()[0].status == "ok"
    assert 20 < run.time.slept[0] <= 30


def test_429_without_retry_after_backs_off_longer_each_time() -> None:
    with serving(*[status(429)] * 3) as server:
        run = Run(server)
        assert run()[0].status == "ok"
    assert [round(math.log2(seconds)) <= attempt for attempt, seconds in enumerate(run.time.slept)] == [True] * 3
    assert run.time.slept[2] >= 2.0  # at least half of 4 seconds


def test_a_burst_of_429_cuts_once() -> None:
    with serving(*[after(0.05, status(429))] * 10) as server:
        run = Run(server, max_in_flight=10)
        assert len(run(*requests(10))) == 10
    assert run.client.limit.width >= 8.0


def test_no_quota_stops_the_run() -> None:
    with (
        serving(status(429, '{"error": {"code": "insufficient_quota"}}')) as server,
        pytest.raises(ServiceUnavailableError, match="no quota"),
    ):
        Run(server)()
    assert len(server.bodies) == 1


def test_a_very_long_wait_stops_the_run() -> None:
    with (
        serving(status(429, Retry_After="86400")) as server,
        pytest.raises(ServiceUnavailableError, match="86400 seconds"),
    ):
        Run(server)()


@pytest.mark.parametrize(
    "fault",
    [status(500), status(503, Retry_After="1"), status(502, "<html>"), cut, body_of("{half"), body_of({}), body_of([])],
)
def test_passing_faults_are_tried_again(fault: Any, store: ResponseStore) -> None:
    with serving(fault, fault) as server:
        run = Run(server, store)
        (judgment,) = run()
    assert (judgment.status, judgment.score) == ("ok", 7.0)
    assert len(server.bodies) == 3
    assert run.client.limit.width >= 10.0  # the server's errors say nothing about the rate
    assert store.stats()["responses"] == 1


@pytest.mark.parametrize("fault", [after(3.0), drip])
def test_time_out_and_slow_drip_are_tried_again(fault: Any) -> None:
    with serving(fault) as server:
        (judgment,) = Run(server, timeout_seconds=0.15)()
    assert judgment.status == "ok"
    assert len(server.bodies) == 2


@pytest.mark.parametrize(
    "fault",
    [
        status(500),
        cut,
        body_of("not JSON"),
        body_of(completion() | {"choices": []}),
        body_of(completion(message={"content": 7})),
    ],
)
def test_lasting_faults_are_api_errors_and_never_kept(fault: Any, store: ResponseStore) -> None:
    with serving(otherwise=fault) as server:
        (judgment,) = Run(server, store)()
        assert (judgment.status, judgment.score) == ("api_error", None)
        assert len(server.bodies) == 6
        assert store.stats()["responses"] == 0
        server.otherwise = ok
        assert Run(server, store)()[0].score == 7.0


def test_a_server_that_only_fails_stops_the_run() -> None:
    with serving(otherwise=status(500)) as server, pytest.raises(ServiceUnavailableError, match="in a row"):
        Run(server, max_in_flight=1)(*requests(100))
    assert len(server.bodies) == FAILURES_IN_A_ROW_TO_STOP * 6


def test_no_server_is_one_message(tmp_path: Path) -> None:
    with serving() as server:
        pass
    with pytest.raises(ServiceUnavailableError, match="no connection"):
        Run(server)()


def test_unparsable_replies_are_not_grades(store: ResponseStore) -> None:
    with serving(body_of(completion("I would say eight."))) as server:
        (judgment,) = Run(server, store)()
        assert (judgment.status, judgment.score, judgment.raw) == ("parse_error", None, "I would say eight.")
        assert Run(server, store)()[0].score == 7.0  # asked again: what cannot be parsed is not kept


@pytest.mark.parametrize(
    "reply",
    [
        body_of(completion("", message={"content": None, "refusal": "I cannot grade this."})),
        body_of(completion("", finish_reason="content_filter")),
        status(400, '{"error": {"code": "content_filter", "message": "filtered"}}'),
    ],
)
def test_refusals(reply: Any, store: ResponseStore) -> None:
    with serving(otherwise=reply) as server:
        (judgment,) = Run(server, store)()
    assert (judgment.status, judgment.score) == ("refused", None)
    assert len(server.bodies) == 1
    assert store.stats()["responses"] == 0


@pytest.mark.parametrize(
    "reply",
    [
        status(400, '{"error": {"code": "context_length_exceeded", "message": "too long"}}'),
        status(
            400, "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens."
        ),
        status(413, "Payload Too Large"),
    ],
)
def test_context_overflow_is_not_a_low_grade(reply: Any) -> None:
    with serving(otherwise=reply) as server:
        (judgment,) = Run(server)()
    assert (judgment.status, judgment.score) == ("over_length", None)
    assert len(server.bodies) == 1


def test_a_prompt_that_cannot_fit_is_not_sent() -> None:
    question = Question("mtbench", "1", "writing", ("Go on.",))
    with serving() as server:
        (judgment,) = Run(server, context_tokens=4096)(JudgeRequest("grade", question, 1, ("word " * 4000,)))
    assert judgment.status == "over_length"
    assert server.bodies == []


def test_another_bad_request_is_an_api_error_at_once() -> None:
    with serving(otherwise=status(400, "unknown parameter")) as server:
        (judgment,) = Run(server)()
    assert (judgment.status, "unknown parameter" in judgment.raw) == ("api_error", True)
    assert len(server.bodies) == 1


def test_another_model_than_asked_for_is_recorded_and_noted(store: ResponseStore) -> None:
    with serving(otherwise=body_of(completion(model="judge-mini"))) as server:
        run = Run(server, store)
        judgments = run(*requests(2))
    assert {(judgment.requested_model, judgment.returned_model) for judgment in judgments} == {("judge", "judge-mini")}
    assert run.judge.notes == ["asked for model judge, the server returned judge-mini"]


@pytest.mark.parametrize("code", [401, 403])
def test_a_refused_key_stops_at_once_and_is_never_shown(
    code: int, monkeypatch: pytest.MonkeyPatch, store: ResponseStore
) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    with (
        serving(otherwise=status(code, f"Incorrect API key provided: {KEY}")) as server,
        pytest.raises(InputError, match="JUDGE_KEY") as caught,
    ):
        Run(server, store, api_key_env="JUDGE_KEY", max_in_flight=1)(*requests(10))
    assert len(server.bodies) == 1
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in str(caught.value)


def test_a_key_that_the_server_echoes_reaches_no_record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    store = ResponseStore(tmp_path / "store.sqlite")
    with serving(
        body_of(completion(f"You sent {KEY}. Rating: [[4]]")), status(400, f"bad header Bearer {KEY}")
    ) as server:
        judgments = Run(server, store, api_key_env="JUDGE_KEY", max_in_flight=1)(*requests(2))
    store.close()
    assert [judgment.status for judgment in judgments] == ["ok", "api_error"]
    assert not any(KEY in str(judgment) for judgment in judgments)
    assert not any(KEY.encode() in path.read_bytes() for path in tmp_path.iterdir())


def test_an_unknown_model_stops_at_once() -> None:
    with (
        serving(otherwise=status(404, "model not found")) as server,
        pytest.raises(InputError, match="does not serve the model 'judge'"),
    ):
        Run(server, max_in_flight=1)(*requests(10))
    assert len(server.bodies) == 1


def test_preference_from_logprobs() -> None:
    with serving(otherwise=body_of(token_completion({"m": math.log(0.6), "M": math.log(0.2)}))) as server:
        (judgment,) = Run(server)(PAIR)
    assert judgment.preference == pytest.approx(1.75)
    assert judgment.details["preference_from"] == "logprobs"
    sent = {key: server.bodies[0][key] for key in ("max_tokens", "temperature", "top_p", "logprobs", "top_logprobs")}
    assert sent == {"max_tokens": 1, "temperature": 1.0, "top_p": 1.0, "logprobs": True, "top_logprobs": 5}


def test_missing_logprobs_are_said_before_the_run_and_are_never_a_verdict(store: ResponseStore) -> None:
    with serving(otherwise=body_of(token_completion(None))) as server:
        run = Run(server, store)
        with pytest.raises(
            InputError, match=r"preference_from: choice.*preference_from: samples.*preference_from: token"
        ):
            run.judge.check(["preference"])
        run.judge.check(["grade"])
        assert run(PAIR)[0].status == "parse_error"
    assert store.stats()["responses"] == 0


def test_a_judge_without_logprobs_gives_its_token_under_another_id() -> None:
    with serving(otherwise=body_of(token_completion(None, "m"))) as server:
        by_token, by_logprobs = Run(server, preference_from="token"), Run(server)
        by_token.judge.check(["preference"])
        (judgment,) = by_token(PAIR)
    assert (judgment.preference, judgment.details["preference_from"]) == (2.0, "token")
    assert "logprobs" not in server.bodies[-1]
    assert by_token.judge.id != by_logprobs.judge.id


def test_neither_token_among_the_logprobs_is_unscored() -> None:
    with serving(otherwise=body_of(token_completion({"The": -0.1}, "The"))) as server:
        assert Run(server)(PAIR)[0].status == "parse_error"


def test_equal_answers_are_a_draw_without_a_call() -> None:
    with serving() as server:
        (judgment,) = Run(server)(JudgeRequest("preference", PAIR.question, 1, ("Trout.",), ("Trout.",)))
    assert judgment.preference == 1.5
    assert server.bodies == []


def test_the_id_knows_what_changes_a_verdict_and_not_how_fast_it_comes() -> None:
    with serving() as server:
        same = {
            Run(server).judge.id,
            Run(
                server, max_in_flight=2, timeout_seconds=9.0, context_tokens=5, price=Price(1.0, 2.0, None, "test")
            ).judge.id,
        }
        others = {Run(server, temperature=0.5).judge.id, Run(server, max_tokens=9).judge.id}
    assert len(same) == 1
    assert len(same | others) == 3


def test_concurrency_grows_to_the_maximum_and_no_further() -> None:
    with serving(otherwise=after(0.02)) as server:
        run = Run(server, max_in_flight=24)
        assert len(run(*requests(200))) == 200
    assert server.most_at_once == 24
    assert run.client.limit.in_flight == 0


def test_two_checkpoints_behind_one_name_never_share_a_reply(store: ResponseStore) -> None:
    with serving() as server:
        Run(server, store)()
        Run(server, store)()
        assert len(server.bodies) == 1
        server.models = [{"id": "judge", "root": "weights-2"}]
        Run(server, store)()
    assert len(server.bodies) == 2


def test_what_the_caller_raises_stops_the_run_and_keeps_what_arrived(store: ResponseStore) -> None:
    def stop(judgment: Judgment) -> None:
        raise ServiceUnavailableError("the budget is spent")

    with serving() as server:
        with pytest.raises(ServiceUnavailableError, match="budget"):
            Run(server, store, max_in_flight=2).judge.judge(requests(50), "model", stop)
        assert len(server.bodies) <= 4
    assert store.stats()["responses"] >= 1


def test_ctrl_c_cancels_cleanly_and_keeps_what_arrived(store: ResponseStore) -> None:
    with serving(*[ok] * 3, otherwise=after(30.0)) as server:

        def interrupt() -> None:
            while len(server.bodies) < 5:
                time.sleep(0.005)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            Run(server, store, timeout_seconds=60.0, max_in_flight=2)(*requests(20))
        thread.join()
    assert store.stats()["responses"] == 3
