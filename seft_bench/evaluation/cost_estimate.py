"""The cost of a command: what it would ask, estimated before anything is sent and without loading a model.

Prompts are the real ones, rendered from the answers at hand. Where an answer is still to be made, one of
TYPICAL_ANSWER_TOKENS stands in for it, and at most one of the suite's limit. Tokens are counted as characters / 4,
which is about right for English.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from seft_bench.evaluation.plan import Plan
from seft_bench.evaluation_files import EvaluationFiles, evaluation_files
from seft_bench.generators import GIVEN
from seft_bench.inference.budget import reply_tokens
from seft_bench.inference.prices import Price
from seft_bench.judges import Judge
from seft_bench.judges.context import CHARACTERS_PER_TOKEN, estimated_tokens
from seft_bench.records import Answer, JudgeRequest, Question
from seft_bench.stages.graders import ToGrade
from seft_bench.suites import Suite

if TYPE_CHECKING:
    from seft_bench.inference.client import ChatCall

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
        wanted: answers or judgments in all.
        at_hand: there already.
        settled: fixed by the protocol or without asking.
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


def estimate_cost(plan: Plan) -> Estimate:
    """Go through what the command would do; nothing is sent, no model is loaded.

    Raises:
        InputError: a prompt cannot be rendered, or a file of answers does not fit.
    """
    lines: list[Line] = []
    for subject in plan.subjects:
        for suite, judge in plan.suites:
            for files in evaluation_files(subject, suite, plan.places, plan.seed):
                lines += _lines(plan.steps, files, judge)
    return Estimate(lines)


def tokens_of_one_model(suite: Suite, judge: Judge) -> tuple[int, int, int, int]:
    """Count the tokens of judging one model's answers to a suite, none of them there yet, in one decoding.

    Returns:
        input about and at most, output typical and at most.

    Raises:
        InputError: a prompt cannot be rendered.
    """
    questions, limit = suite.questions(), suite.config.max_new_tokens
    stand_ins = {question.id: _stand_in(question, "", min(TYPICAL_ANSWER_TOKENS, limit)) for question in questions}
    sent = _sent(judge, suite.requests(questions, stand_ins), stand_ins, max(0, limit - TYPICAL_ANSWER_TOKENS))
    return sent.input_about, sent.input_most, sent.output_typical, sent.output_most


def _lines(steps: Sequence[str], files: EvaluationFiles, judge: Judge) -> list[Line]:
    answers = _ready_answers(files) if files.subject.ready else files.drawn_answers()
    is_to_answer = "answer" in steps and not files.subject.ready
    missing = [question for question in files.questions if question.id not in answers] if is_to_answer else []
    found = [_answer_line(files, len(answers), missing)] if "answer" in steps else []
    return [*found, _judge_line(files, judge, answers, missing)] if "judge" in steps else found


def _ready_answers(files: EvaluationFiles) -> dict[str, Answer]:
    """Return the answers of a file."""
    found: dict[str, Answer] = {}
    generator = files.subject.open_generator()
    generator.answer(files.questions, files.decoding, lambda answer: found.update({answer.question_id: answer}))
    return found


def _answer_line(files: EvaluationFiles, at_hand: int, missing: Sequence[Question]) -> Line:
    subject, limit = files.subject, files.decoding.max_new_tokens
    typical = min(TYPICAL_ANSWER_TOKENS, limit)
    turns = sum(len(question.turns) for question in missing)
    about, most = (sum(_prompt_tokens(question, answer) for question in missing) for answer in (typical, limit))
    by = subject.server or ("its file" if subject.ready else "this machine")
    return _line(
        ("answer", by, subject.model_id, files.suite.config.name, files.decoding.name),
        subject.model_id if subject.server else "",
        counts=(at_hand + len(missing), at_hand, 0, None if subject.server else 0, turns if subject.server else 0),
        tokens=((about, most), (turns * typical, turns * limit)) if subject.server else ((0, 0), (0, 0)),
        price=subject.price,
    )


def _prompt_tokens(question: Question, answer_tokens: int) -> int:
    """Add up over all turns of a question: each sees the turns and answers before it."""
    sizes = [len(turn) // CHARACTERS_PER_TOKEN for turn in question.turns]
    return sum(sum(sizes[: turn + 1]) + turn * answer_tokens for turn in range(len(sizes)))


def _judge_line(
    files: EvaluationFiles, judge: Judge, answers: Mapping[str, Answer], missing: Sequence[Question]
) -> Line:
    model_id, limit = files.subject.model_id, files.decoding.max_new_tokens
    stand_ins = {question.id: _stand_in(question, model_id, min(TYPICAL_ANSWER_TOKENS, limit)) for question in missing}
    wanted = files.requests({**answers, **stand_ins})
    open_ones = files.unjudged(judge, wanted)
    asked = [request for request in open_ones if files.suite.settled(request, model_id) is None]
    sent = _sent(judge, asked, stand_ins, max(0, limit - TYPICAL_ANSWER_TOKENS))
    settled = len(open_ones) - len(asked) + sent.unasked
    where = (model_id, files.suite.config.name, files.decoding.name)
    return _line_of(judge, sent, where, (len(wanted), len(wanted) - len(open_ones), settled))


def estimate_requests(judge: Judge, wanted: int, open_ones: Sequence[JudgeRequest], suite: str) -> Estimate:
    """Estimate what a judge would be asked besides an evaluation.

    Args:
        wanted: requests in all.
        open_ones: those without a verdict.
    """
    sent = _sent(judge, open_ones, {}, 0)
    counts = (wanted, wanted - len(open_ones), sent.unasked)
    return Estimate([_line_of(judge, sent, ("given answers", suite, GIVEN), counts)])


def estimate_grading(stages: Sequence[ToGrade]) -> Estimate:
    """Estimate what servers would be asked for the grades of a training's samples, one line a stage."""
    estimates = [
        estimate_requests(stage.judge, stage.wanted, stage.open_ones, stage.stage)
        for stage in stages
        if stage.judge.client
    ]
    return Estimate([line for estimate in estimates for line in estimate.lines])


def _line_of(judge: Judge, sent: _Sent, where: tuple[str, str, str], counts: tuple[int, int, int]) -> Line:
    return _line(
        ("judge", judge.id, *where),
        judge.client.model if judge.client else "",
        counts=(*counts, sent.stored, sent.requests),
        tokens=((sent.input_about, sent.input_most), (sent.output_typical, sent.output_most)),
        price=judge.price,
    )


def _stand_in(question: Question, model_id: str, tokens: int) -> Answer:
    text = "x" * (tokens * CHARACTERS_PER_TOKEN)
    return Answer(question.suite, question.id, model_id, (text,) * len(question.turns))


@dataclass
class _Sent:
    """Requests that a judge would send."""

    requests: int = 0
    unasked: int = 0
    stored: int | None = 0
    input_about: int = 0
    input_most: int = 0
    output_typical: int = 0
    output_most: int = 0

    def add(self, call: ChatCall, longer_by_tokens: int) -> None:
        size, most = estimated_tokens(call.messages), reply_tokens(call.sampling)
        self.requests += 1
        self.input_about += size
        self.input_most += size + longer_by_tokens
        self.output_typical += min(TYPICAL_REPLY_TOKENS, most)
        self.output_most += most


def _sent(
    judge: Judge, requests: Sequence[JudgeRequest], stand_ins: Mapping[str, Answer], longer_by_tokens: int
) -> _Sent:
    """Count what the judge would send: equal requests once, stored replies not at all."""
    sent, client = _Sent(), judge.client
    if client is None:
        return sent
    # without a key the server's weights are part of the key, and only the server knows these
    store = client.store if client.api_key_env is not None else None
    sent.stored = 0 if store is not None or client.store is None else None
    seen: set[str] = set()
    for request in requests:
        calls = judge.calls(request)
        sent.unasked += not calls
        longer = longer_by_tokens * len(request.candidate) if request.question.id in stand_ins else 0
        for call in calls:
            key = client.key_of(call)
            if key in seen:
                continue
            seen.add(key)
            if store is not None and store.get(key) is not None:
                sent.stored = (sent.stored or 0) + 1
            else:
                sent.add(call, longer)
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
