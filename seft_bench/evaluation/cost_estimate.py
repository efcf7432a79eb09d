"""What a command would ask and what that would cost, before anything is sent and without loading a model.

Prompts are the real ones, rendered from the answers at hand. Where an answer is still to be made, one of
TYPICAL_ANSWER_TOKENS stands in for it, and at most one of the suite's limit. Tokens are counted as characters / 4,
which is about right for English.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from seft_bench import pipeline
from seft_bench.evaluation.plan import Plan
from seft_bench.inference.budget import reply_tokens
from seft_bench.inference.prices import NO_SERVER, Price, price_of
from seft_bench.judges.context import CHARACTERS_PER_TOKEN, estimated_tokens
from seft_bench.pipeline import Places
from seft_bench.records import Answer, JudgeRequest, Question
from seft_bench.subjects import Subject

TYPICAL_ANSWER_TOKENS = 400
"""Assumed of an answer that is not there yet."""
TYPICAL_REPLY_TOKENS = 200
"""Of a judge that explains itself: GPT-4's 1,440 published gradings of MT-Bench answers have 196 on average, at 4
characters a token.
"""

ASSUMPTIONS = (
    f"tokens: characters / {CHARACTERS_PER_TOKEN}; an answer that is still to be made: {TYPICAL_ANSWER_TOKENS} tokens, "
    "at most the suite's limit; "
    f"a reply of more than one token: {TYPICAL_REPLY_TOKENS}, at most what the request allows"
)


@dataclass(frozen=True)
class Line:
    """One kind of work on one model, suite and decoding.

    Attributes:
        work: "answer" or "judge".
        by: who does it: a judge's id, a server, or "this machine".
        model: the model that is evaluated.
        asked_model: the one that is paid, "" where nobody is.
        wanted: answers or judgments in all;
        at_hand: there already;
        settled: fixed by the protocol or without asking;
        stored: replies in the response store, None where only the server could say;
        to_ask: requests that would be sent.
        input_tokens: (about, at most).
        output_tokens: (typical, at most).
        usd: (low, high), None where the price is unknown.
    """

    work: str
    by: str
    model: str
    suite: str
    decoding: str
    asked_model: str
    wanted: int
    at_hand: int
    settled: int
    stored: int | None
    to_ask: int
    input_tokens: tuple[int, int]
    output_tokens: tuple[int, int]
    price: Price
    usd: tuple[float, float] | None


@dataclass(frozen=True)
class Estimate:
    """All lines of a command."""

    lines: Sequence[Line]

    @property
    def usd(self) -> tuple[float, float]:
        """(low, high) of all lines whose price is known."""
        known = [line.usd for line in self.lines if line.usd]
        return sum(low for low, _ in known), sum(high for _, high in known)

    @property
    def unknown(self) -> list[Line]:
        """Lines that would cost something that nobody knows."""
        return [line for line in self.lines if line.to_ask and line.usd is None]

    def to_ask(self, work: str) -> int:
        return sum(line.to_ask for line in self.lines if line.work == work)


def estimate(plan: Plan, places: Places, seed: int) -> Estimate:
    """Go through what the command would do; nothing is sent, no model is loaded.

    Raises:
        InputError: a prompt cannot be rendered, or a file of answers does not fit.
    """
    lines: list[Line] = []
    for subject in plan.subjects:
        for suite, judge in zip(plan.suites, plan.judges, strict=True):
            for decoding in pipeline.decodings(subject, suite):
                lines += _lines(plan, places, seed, subject, suite, judge, decoding)
    return Estimate(lines)


def tokens_of_one_model(suite: Any, judge: Any) -> tuple[int, int, int, int]:
    """Tokens of judging one model's answers to a suite, none of them there yet, in one decoding: input about and at
    most, output typical and at most.

    Raises:
        InputError: a prompt cannot be rendered.
    """
    questions, limit = suite.questions(), suite.config.max_new_tokens
    stand_ins = {question.id: _stand_in(question, "", min(TYPICAL_ANSWER_TOKENS, limit)) for question in questions}
    sent = _sent(judge, suite.requests(questions, stand_ins), stand_ins, max(0, limit - TYPICAL_ANSWER_TOKENS))
    return sent.input_about, sent.input_most, sent.output_typical, sent.output_most


def _lines(
    plan: Plan, places: Places, seed: int, subject: Subject, suite: Any, judge: Any, decoding: str
) -> list[Line]:
    questions = suite.questions()
    answers = (
        _ready(subject, suite, questions)
        if subject.ready
        else pipeline.answered(subject, suite, decoding, places, seed)
    )
    missing = (
        [question for question in questions if question.id not in answers]
        if "answer" in plan.steps and not subject.ready
        else []
    )
    found = []
    if "answer" in plan.steps:
        found.append(_answer_line(subject, suite, decoding, len(answers), missing))
    if "judge" in plan.steps:
        found.append(_judge_line(subject, suite, judge, decoding, places, questions, answers, missing))
    return found


def _ready(subject: Subject, suite: Any, questions: Sequence[Question]) -> dict[str, Answer]:
    """The answers of a file."""
    found: dict[str, Answer] = {}
    subject.open_generator().answer(
        questions,
        None,
        "given",
        suite.config.max_new_tokens,
        0,
        lambda answer: found.update({answer.question_id: answer}),
    )
    return found


def _answer_line(subject: Subject, suite: Any, decoding: str, at_hand: int, missing: Sequence[Question]) -> Line:
    limit = suite.config.max_new_tokens
    typical = min(TYPICAL_ANSWER_TOKENS, limit)
    turns = sum(len(question.turns) for question in missing)
    about, most = (sum(_prompt_tokens(question, answer) for question in missing) for answer in (typical, limit))
    price = price_of(subject.server, subject.model_id) if subject.server else NO_SERVER
    return _line(
        (
            "answer",
            subject.server or ("its file" if subject.ready else "this machine"),
            subject.model_id,
            suite.config.name,
            decoding,
        ),
        subject.model_id if subject.server else "",
        counts=(at_hand + len(missing), at_hand, 0, None if subject.server else 0, turns if subject.server else 0),
        tokens=((about, most), (turns * typical, turns * limit)) if subject.server else ((0, 0), (0, 0)),
        price=price,
    )


def _prompt_tokens(question: Question, answer_tokens: int) -> int:
    """Over all turns of a question: each sees the turns and answers before it."""
    sizes = [len(turn) // CHARACTERS_PER_TOKEN for turn in question.turns]
    return sum(sum(sizes[: turn + 1]) + turn * answer_tokens for turn in range(len(sizes)))


def _judge_line(
    subject: Subject,
    suite: Any,
    judge: Any,
    decoding: str,
    places: Places,
    questions: Sequence[Question],
    answers: Mapping[str, Answer],
    missing: Sequence[Question],
) -> Line:
    limit = suite.config.max_new_tokens
    stand_ins = {
        question.id: _stand_in(question, subject.model_id, min(TYPICAL_ANSWER_TOKENS, limit)) for question in missing
    }
    wanted = suite.requests(questions, {**answers, **stand_ins})
    open_ones = pipeline.unjudged(subject, suite, judge, decoding, places, wanted)
    asked = [request for request in open_ones if suite.settled(request, subject.model_id) is None]
    sent = _sent(judge, asked, stand_ins, max(0, limit - TYPICAL_ANSWER_TOKENS))
    settled = len(open_ones) - len(asked) + sent.unasked
    return _line_of(
        judge,
        sent,
        (subject.model_id, suite.config.name, decoding),
        (len(wanted), len(wanted) - len(open_ones), settled),
    )


def estimate_requests(judge: Any, wanted: int, open_ones: Sequence[JudgeRequest], suite: str) -> Estimate:
    """What a judge would be asked besides an evaluation: `wanted` requests in all, `open_ones` without a verdict."""
    sent = _sent(judge, open_ones, {}, 0)
    return Estimate(
        [_line_of(judge, sent, ("given answers", suite, "given"), (wanted, wanted - len(open_ones), sent.unasked))]
    )


def _line_of(judge: Any, sent: _Sent, where: tuple[str, str, str], counts: tuple[int, int, int]) -> Line:
    return _line(
        ("judge", judge.id, *where),
        judge.client.model if sent.by_server else "",
        counts=(*counts, sent.stored, sent.requests),
        tokens=((sent.input_about, sent.input_most), (sent.output_typical, sent.output_most)),
        price=price_of_judge(judge),
    )


def _stand_in(question: Question, model_id: str, tokens: int) -> Answer:
    text = "x" * (tokens * CHARACTERS_PER_TOKEN)
    return Answer(question.suite, question.id, model_id, (text,) * len(question.turns))


def price_of_judge(judge: Any) -> Price:
    """What its server takes."""
    if not hasattr(judge, "client"):
        return NO_SERVER
    price: Price = judge.price
    return price


@dataclass
class _Sent:
    """Requests that a judge would send."""

    by_server: bool
    requests: int = 0
    unasked: int = 0
    stored: int | None = 0
    input_about: int = 0
    input_most: int = 0
    output_typical: int = 0
    output_most: int = 0


def _sent(
    judge: Any, requests: Sequence[JudgeRequest], stand_ins: Mapping[str, Answer], longer_by_tokens: int
) -> _Sent:
    """Count what the judge would send: equal requests once, stored replies not at all."""
    sent = _Sent(by_server=hasattr(judge, "client"))
    if not sent.by_server:
        return sent
    sees_store = (
        judge.client.store is not None and judge.client.api_key_env is not None
    )  # without a key the server's weights are part of the key
    sent.stored = 0 if sees_store or judge.client.store is None else None
    seen: set[str] = set()
    for request in requests:
        calls = judge.calls(request)
        sent.unasked += not calls
        for call in calls:
            key = judge.client.key_of(call)
            if key in seen:
                continue
            seen.add(key)
            if sees_store and judge.client.store.get(key) is not None:
                sent.stored = (sent.stored or 0) + 1
                continue
            size = estimated_tokens(call.messages)
            sent.requests += 1
            sent.input_about += size
            sent.input_most += size + (
                longer_by_tokens * len(request.candidate) if request.question.id in stand_ins else 0
            )
            sent.output_typical += min(TYPICAL_REPLY_TOKENS, reply_tokens(call.sampling))
            sent.output_most += reply_tokens(call.sampling)
    return sent


def _line(
    where: tuple[str, str, str, str, str],
    asked_model: str,
    *,
    counts: tuple[int, int, int, int | None, int],
    tokens: tuple[tuple[int, int], tuple[int, int]],
    price: Price,
) -> Line:
    (about, most_in), (typical, most_out) = tokens
    low, high = price.usd(about, typical), price.usd(most_in, most_out)
    usd = None if low is None or high is None else (low, high)
    return Line(*where, asked_model, *counts, *tokens, price, usd)
