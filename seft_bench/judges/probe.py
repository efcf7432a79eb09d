"""Probes of a judge, and one message for each unusable reply, which names the setting to change."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from seft_bench.errors import InputError, JudgeUnavailableError
from seft_bench.inference.failures import Settings
from seft_bench.inference.replies import KEPT, Reply
from seft_bench.judges.parse import LEAST_CHOICE_MASS, choice_mass, without_reasoning
from seft_bench.judges.sampling import PreferenceFrom, Sampling
from seft_bench.reasoning import split
from seft_bench.records import JudgeRequest, Message, Question

_PROBE = Question(suite="probe", id="probe", category="", turns=("What colour is the clear sky by day?",))

NEITHER_M: tuple[Message, ...] = (
    {"role": "user", "content": "What colour is the clear sky by day? Reply with the one English word."},
)
"""Nobody answers this with "m" or "M" unless nothing else can be written."""

ALTERNATIVES: dict[PreferenceFrom, str] = {
    "logprobs": "`preference_from: logprobs` (a server that returns log-probabilities)",
    "choice": "`preference_from: choice` (vLLM 0.11 or later: it may write m or M only)",
    "samples": "`preference_from: samples` (the share of several verdicts)",
    "token": "`preference_from: token` (one verdict)",
}

KINDS = ("grade", "preference", "pair")
"""The kinds of request that a judge may get, see `Judge.check`."""


def probe_request(kind: str) -> JudgeRequest:
    """Return a small request of one of the `KINDS`."""
    if kind == "grade":
        return JudgeRequest("grade", _PROBE, 1, ("Blue.",))
    question = _PROBE if kind == "preference" else dataclasses.replace(_PROBE, turns=(*_PROBE.turns, "And at dusk?"))
    return JudgeRequest("preference", question, 1, ("Blue.",), ("Green.",))


def probe_kind(request: JudgeRequest) -> str:
    """Return the name that `check` has for this kind of request."""
    return "pair" if request.kind == "preference" and len(request.question.turns) > 1 else request.kind


def chosen(kind: str, examples: Sequence[JudgeRequest]) -> list[JudgeRequest]:
    """Return the requests to probe with, one after the other until one is taken.

    The longest example, a middling one, and a small one of our own, which nobody refuses for what it says.
    """
    fitting = sorted((item for item in examples if probe_kind(item) == kind), key=_characters, reverse=True)
    longest_and_middling = [fitting[0], fitting[len(fitting) // 2]] if len(fitting) > 1 else fitting
    return [*longest_and_middling, probe_request(kind)]


def _characters(request: JudgeRequest) -> int:
    question = request.question
    return sum(map(len, (*question.turns, *question.reference, *request.candidate, *request.baseline)))


def alternatives(refused: PreferenceFrom) -> str:
    """Name the other sources of preferences, in YAML."""
    others = "; ".join(text for name, text in ALTERNATIVES.items() if name != refused)
    return f"Set one of these in the judge's YAML: {others}. Each makes a judge of its own, under another id."


def settings_of(sampling: Sampling) -> Settings:
    """Return where a judge's settings stand, for the client's advice."""
    elsewhere = alternatives(sampling.preference_from)
    others = dict.fromkeys(("structured_outputs", "logprobs", "top_logprobs"), elsewhere)
    return Settings("the judge's YAML", "`max_tokens` in the judge's YAML", "`seed: null`", others)


def refuse_failed(who: str, reply: Reply, max_tokens: int) -> None:
    """Raise for a probe that got no reply.

    Args:
        max_tokens: of the reply.

    Raises:
        InputError: no room for the prompt and the reply, or the server refuses the request.
        JudgeUnavailableError: the server failed, which another time it may not.
    """
    if reply.status in KEPT:
        return
    if reply.status == "api_error" and not reply.attempts_failed:
        raise InputError(f"{who} refuses the probe ({reply.text}), and would refuse the run's requests likewise.")
    if reply.status == "over_length":
        raise InputError(
            f"{who} has no room for the prompts and a reply of {max_tokens} tokens ({reply.text}). {_ROOM}"
        )
    raise JudgeUnavailableError(f"{who}: the probe failed ({reply.status}: {reply.error or reply.text})")


_ROOM = "Set a smaller `max_tokens` in the judge's YAML, or serve the judge with a larger context."


def does_not_fit_all(who: str, reply: Reply, max_tokens: int) -> str:
    """Say that the longest prompt got no verdict, though others may."""
    if reply.status == "refused":
        return f"{who} refuses a prompt for what it says ({reply.text})"
    return f"{who} has no room for the longest prompt and a reply of {max_tokens} tokens ({reply.text}). {_ROOM}"


def refuse_silent(who: str, reply: Reply) -> None:
    """Raise if the reply says nothing.

    Raises:
        InputError: it ended in its reasoning, or consists of nothing else.
        JudgeUnavailableError: it is empty, however often the judge is asked.
    """
    if without_reasoning(reply.text).strip():
        return
    if not _reasoned(reply):
        if reply.finish_reason != "length":  # a first token may be white space
            raise JudgeUnavailableError(f"{who} says nothing: its reply is empty (`{reply.finish_reason}`).")
        return
    if reply.finish_reason == "length":
        raise InputError(
            f"{who} reasons first, and its {reply.completion_tokens} tokens end before it says anything. Set a larger "
            "`max_tokens` in the judge's YAML, or switch the reasoning off (`extra_body`)."
        )
    raise InputError(
        f"{who} says nothing: the content of its reply is null or empty, and all {len(reply.reasoning):,} characters "
        "stand apart as reasoning (`reasoning_content`). Serve it without the reasoning parser, or switch the "
        "reasoning off (`extra_body: {chat_template_kwargs: {enable_thinking: false}}`)."
    )


def _reasoned(reply: Reply) -> bool:
    """Return whether it reasoned, as the text shows (its marks) or the server says (vLLM's and OpenAI's fields)."""
    return bool(split(reply.text).reasoning or reply.reasoning or reply.reasoning_tokens)


def refuse_without_logprobs(who: str, source: PreferenceFrom, reply: Reply) -> None:
    """Raise InputError if the reply that a preference would be computed from has no log-probabilities."""
    if reply.top_logprobs is None:
        raise InputError(
            f"{who} returns no log-probabilities, which its preferences are computed from. {alternatives(source)}"
        )


def refuse_unconstrained(who: str, reply: Reply) -> None:
    """Raise InputError if the reply to `NEITHER_M` shows that the constraint to m or M does not hold."""
    top = reply.top_logprobs or {}
    if choice_mass(top) < LEAST_CHOICE_MASS or reply.text.strip() not in ("m", "M"):
        raise InputError(
            f"{who} does not keep to `structured_outputs: choice`: allowed to write m or M only, it wrote "
            f"{reply.text[:40]!r} with {_shown(top)}, where m and M should have probability 1 together. vLLM before "
            f"0.11 and most other servers ignore the constraint. {alternatives('choice')}"
        )


def _shown(top_logprobs: Mapping[str, float]) -> str:
    listed = sorted(top_logprobs.items(), key=lambda item: -item[1])
    shown = [f"P({token!r}) = {math.exp(min(0.0, logprob)):.3f}" for token, logprob in listed]
    return ", ".join(shown) or "no probabilities"
