"""Probes of a judge, and one message for each unusable reply, which names the setting to change."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from seft_bench.errors import InputError, JudgeUnavailableError
from seft_bench.inference.replies import KEPT, Reply
from seft_bench.judges.parse import LEAST_CHOICE_MASS, choice_mass, without_reasoning
from seft_bench.judges.sampling import PreferenceFrom
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

_REFUSED_PARAMETERS = {
    "structured_outputs": "",
    "logprobs": "",
    "temperature": "Set `send_temperature: false` in the judge's YAML.",
    "top_p": "Set `send_temperature: false` in the judge's YAML.",
    "max_completion_tokens": "Set `max_tokens_parameter: max_completion_tokens` in the judge's YAML.",
    "max_tokens": "Set `max_tokens_parameter` or a larger `max_tokens` in the judge's YAML.",
}
"""Word in a server's refusal -> what to do.

The first word that is found counts; "" stands for another source of preferences.
"""


KINDS = ("grade", "preference", "pair")
"""The kinds of request that a judge may get, see `Judge.check`."""


def probe_request(kind: str) -> JudgeRequest:
    """Return a small request of one of the `KINDS`."""
    if kind == "grade":
        return JudgeRequest("grade", _PROBE, 1, ("Blue.",))
    question = _PROBE if kind == "preference" else dataclasses.replace(_PROBE, turns=(*_PROBE.turns, "And at dusk?"))
    return JudgeRequest("preference", question, 1, ("Blue.",), ("Green.",))


def alternatives(refused: PreferenceFrom) -> str:
    """Name the other sources of preferences, in YAML."""
    others = "; ".join(text for name, text in ALTERNATIVES.items() if name != refused)
    return f"Set one of these in the judge's YAML: {others}. Each makes a judge of its own, under another id."


def refuse_failed(who: str, source: PreferenceFrom, reply: Reply) -> None:
    """Raise for a probe that got no reply.

    Raises:
        InputError: a parameter that the server does not take.
        JudgeUnavailableError: anything else.
    """
    if reply.status in KEPT:
        return
    word = next((word for word in _REFUSED_PARAMETERS if word in reply.text and reply.text.startswith("HTTP 4")), None)
    if word is None:
        raise JudgeUnavailableError(f"{who}: the probe failed ({reply.status}: {reply.text})")
    raise InputError(
        f"{who}: the server refuses the request ({reply.text[:300]}). "
        f"{_REFUSED_PARAMETERS[word] or alternatives(source)}"
    )


def refuse_all_reasoning(who: str, reply: Reply) -> None:
    """Raise InputError if the reply ended in its reasoning, before a verdict began."""
    if reply.finish_reason == "length" and _reasoned(reply) and not without_reasoning(reply.text).strip():
        raise InputError(
            f"{who} reasons first, and its {reply.completion_tokens} tokens end before it says anything. Set a larger "
            "`max_tokens` in the judge's YAML, or switch the reasoning off (`extra_body`)."
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
