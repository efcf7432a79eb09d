"""A judge asked once against a server of ours, with time that never waits, and answers that one generates."""

from __future__ import annotations

from typing import Any

from seft_bench.config import DecodingConfig
from seft_bench.generators import Decoding
from seft_bench.generators.openai_compatible import OpenAICompatibleGenerator
from seft_bench.inference.client import ChatClient
from seft_bench.inference.store import ResponseStore
from seft_bench.judges.openai_compatible import OpenAIJudge
from seft_bench.judges.sampling import Sampling
from seft_bench.records import Answer, JudgeRequest, Judgment, Question
from tests.faults.chat_server import (
    ChatServer,
    FakeTime,
)
from tests.faults.judge_run import requests

KEY = "sk-not-a-real-key-12345"


PAIR = JudgeRequest(
    "preference", Question("alpacaeval", "q", "", ("Name a fish.",)), 1, ("Trout.",), ("Salmon.",), candidate_first=True
)


class Run:
    """A judge over `server` with a store and a clock that never waits."""

    def __init__(
        self, server: ChatServer, store: ResponseStore | None = None, timeout_seconds: float = 5.0, **settings: Any
    ) -> None:
        self.time = FakeTime()
        key_env = settings.pop("api_key_env", None)
        self.client = ChatClient(
            server.url,
            "judge",
            key_env,
            store,
            timeout_seconds=timeout_seconds,
            max_in_flight=settings.pop("max_in_flight", 64),
            sleep=self.time.sleep,
            clock=self.time.clock,
        )
        others = {name: settings.pop(name) for name in ("price", "context_tokens", "count_tokens") if name in settings}
        others["templates"] = settings.pop("templates", "seft-bench")
        self.judge = OpenAIJudge("test", self.client, sampling=Sampling(**settings), **others)
        self.judgments: list[Judgment] = []

    def __call__(self, *asked: JudgeRequest) -> list[Judgment]:
        self.judgments = []
        self.judge.judge(asked or requests(1), "model", self.judgments.append)
        return self.judgments


DECODING = DecodingConfig(temperature=0.7, by_category={"math": 0.0})


QUESTIONS = [
    Question("mtbench", "1", "writing", ("Greet me.", "Once more.")),
    Question("mtbench", "2", "math", ("Add.", "Again.")),
    Question("mtbench", "3", "writing", ("Only once.",)),
]


def generate(url: str, store: ResponseStore | None = None, seed: int = 0) -> list[Answer]:
    time, answers = FakeTime(), []
    client = ChatClient(url, "policy", None, store, sleep=time.sleep, clock=time.clock)
    OpenAICompatibleGenerator("policy", client).answer(
        QUESTIONS, Decoding("official", DECODING, 64, seed), answers.append
    )
    return sorted(answers, key=lambda answer: answer.question_id)
