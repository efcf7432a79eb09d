"""The protocol of judges, a base for most of them, and the record of a verdict."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from seft_bench.inference.prices import NO_SERVER, Price
from seft_bench.records import JudgeRequest, Judgment, Question, Status

if TYPE_CHECKING:
    from seft_bench.inference.client import ChatCall, ChatClient

OnJudgment = Callable[[Judgment], None]


class Judge(Protocol):
    """Anything that grades answers or compares two.

    Attributes:
        id: name and a short hash of the settings that matter for a verdict (never of concurrency or prices).
        notes: what a reader of the figures must know, one sentence each ("the server returned another model").
        client: of the server that is asked, where one is asked for every verdict; None: nothing is sent, nothing paid.
        price: of that server's tokens.
        weights_fingerprint: of weights that may change under the judge's id, once they were measured; "" before, and
            for a judge whose id says all.
        is_managed: it starts a server of its own, which takes the machine's memory until `close`.
    """

    notes: list[str]
    price: Price

    @property
    def id(self) -> str: ...

    @property
    def client(self) -> ChatClient | None: ...

    @property
    def weights_fingerprint(self) -> str: ...

    @property
    def is_managed(self) -> bool: ...

    def check_questions(self, kind: str, questions: Sequence[Question]) -> None:
        """Refuse questions that this judge cannot judge, before `check`.

        Args:
            kind: as in `check`.

        Raises:
            InputError: there are some.
        """

    def check(self, kinds: Collection[str], examples: Sequence[JudgeRequest] = ()) -> None:
        """Probe before a run that asks for these kinds, before any answer is paid for.

        Args:
            kinds: "grade", "preference" (of single answers, as AlpacaEval asks) or "pair" (of conversations, as
                MT-Bench asks).
            examples: requests such as the run will make; a judge behind a server is asked the longest.

        Raises:
            InputError: the key is missing or refused, the model is not there, or the server cannot do what is needed.
            ServiceUnavailableError: the server cannot be reached.
        """

    def judge(self, requests: Sequence[JudgeRequest], model_id: str, on_judgment: OnJudgment) -> None:
        """Judge all requests, handing over each judgment as it arrives, in any order.

        The judge is never told whose answers these are: `model_id` is only copied into the records. What `on_judgment`
        raises stops the run; what has arrived until then is kept.
        """

    def calls(self, request: JudgeRequest) -> list[ChatCall]:
        """Return what would be sent to `client` for a verdict on `request`; [] where none need be. Nothing is sent."""
        ...

    def close(self) -> None:
        """Give back what the judge holds; the next judgment would take it again. May be called twice."""


class BaseJudge:
    """A judge that asks no server, takes every question and holds nothing; subclasses override what differs."""

    price = NO_SERVER
    is_managed = False

    @property
    def client(self) -> ChatClient | None:
        return None

    @property
    def weights_fingerprint(self) -> str:
        return ""

    def check_questions(self, kind: str, questions: Sequence[Question]) -> None:
        """Take all questions."""

    def calls(self, request: JudgeRequest) -> list[ChatCall]:
        return []

    def close(self) -> None:
        """Hold nothing."""


def order_shown(request: JudgeRequest) -> str:
    if request.kind == "grade":
        return "single"
    return "candidate_first" if request.candidate_first else "candidate_second"


def judgment_of(
    request: JudgeRequest,
    model_id: str,
    judge_id: str,
    requested_model: str,
    *,
    status: Status,
    score: float | None = None,
    preference: float | None = None,
    raw: str = "",
    details: Mapping[str, Any] | None = None,
    returned_model: str | None = None,
    prompt_hash: str = "",
    **usage: Any,
) -> Judgment:
    """Return the record of a verdict on `request`; `usage` holds tokens, latency, price and time where known."""
    return Judgment(
        suite=request.question.suite,
        question_id=request.question.id,
        model_id=model_id,
        turn=request.turn,
        key=request.key,
        answer_hash=request.answer_hash,
        judge_id=judge_id,
        requested_model=requested_model,
        returned_model=requested_model if returned_model is None else returned_model,
        prompt_hash=prompt_hash,
        order=order_shown(request),
        status=status,
        score=score,
        preference=preference,
        raw=raw,
        details=dict(details or {}),
        **usage,
    )
