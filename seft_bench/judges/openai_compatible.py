"""Judges behind any OpenAI-compatible server: OpenAI itself, vLLM, llama.cpp, any base URL.

Grades follow MT-Bench's protocol (temperature 0, at most 2,048 tokens), preferences AlpacaEval 2.0's (one token,
temperature 1, the five likeliest tokens), pairs of conversations FastChat's pairwise one. A judge whose server gives
no log-probabilities says in its YAML where preferences come from instead (`preference_from`), and its id differs, so
that two kinds of estimate never stand under one name.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from seft_bench.config import OpenAIJudgeConfig
from seft_bench.files import sha256_json
from seft_bench.inference.client import ChatCall, ChatClient
from seft_bench.inference.opening import open_client
from seft_bench.inference.prices import UNKNOWN_PRICE, Price, judge_price
from seft_bench.inference.replies import KEPT, Reply, ReplyStatus
from seft_bench.inference.weights import fingerprint_local_weights
from seft_bench.judges import parse, probe
from seft_bench.judges.base import BaseJudge, OnJudgment, judgment_of
from seft_bench.judges.context import TokenCounter, estimated_tokens, outgrown, token_counter, unread_details
from seft_bench.judges.prompts import Prompt, ReplyKind, TemplateSet, render, template_versions
from seft_bench.judges.sampling import OFFICIAL, Sampling
from seft_bench.records import JudgeRequest, Judgment, Status

Verdict = dict[str, Any]

_JUDGMENT_STATUS: dict[ReplyStatus, Status] = {
    "ok": "ok",
    "empty": "parse_error",
    "refused": "refused",
    "over_length": "over_length",
    "partial": "api_error",
    "api_error": "api_error",
}
"""Status of a reply -> of a judgment that it gives no verdict to, but "ok", where the verdict decides."""

NumberT = TypeVar("NumberT", int, float)


class OpenAIJudge(BaseJudge):
    """A judge behind a chat-completions server; `config.OpenAIJudgeConfig` explains the arguments.

    Attributes:
        notes: facts about the run, each once ("the server returned another model").
    """

    def __init__(
        self,
        name: str,
        client: ChatClient,
        *,
        templates: TemplateSet = "official",
        sampling: Sampling = OFFICIAL,
        context_tokens: int | None = None,
        price: Price = UNKNOWN_PRICE,
        count_tokens: TokenCounter = estimated_tokens,
    ) -> None:
        self._name, self._client = name, client
        client.settings = probe.settings_of(sampling)
        self.templates, self.sampling, self.context_tokens = templates, sampling, context_tokens
        self.price, self.count_tokens = price, count_tokens
        self._body = functools.cache(sampling.body)
        self.notes: list[str] = []

    @property
    def client(self) -> ChatClient:
        return self._client

    @functools.cached_property
    def id(self) -> str:
        """Name and hash of what can change a verdict: server, model, wording, sampling, preferences, epoch."""
        settings: dict[str, Any] = {
            "server": self.client.base_url,
            "model": self.client.model,
            "templates": [self.templates, template_versions(self.templates)],
            "sampling": self.sampling.identity(),
            "epoch": self.client.epoch,
        }
        if headers := self.client.credentials.headers:
            settings["headers"] = dict(headers)
        return f"{self._name}-{sha256_json(settings)[:8]}"

    @classmethod
    def from_config(cls, config: OpenAIJudgeConfig, store_path: Path | None = None) -> OpenAIJudge:
        return cls(
            config.name,
            _client_of(config, store_path),
            templates=config.templates,
            sampling=_sampling_of(config),
            context_tokens=config.context_tokens,
            price=judge_price(config),
            count_tokens=token_counter(config.tokenizer, config.context_tokens),
        )

    def check(self, kinds: Collection[str], examples: Sequence[JudgeRequest] = ()) -> None:
        """Send a real request of each kind: the key is good, the model is there, the reply can be used, there is room.

        Then a local server's weights are measured.
        """
        for kind in sorted(kinds):
            kind_of_reply, reply = self._probe(kind, examples)
            self._note_model(reply.model)
            if kind_of_reply == "token":
                self._check_preference(reply)
            else:
                probe.refuse_silent(self._who, reply)
        self._note(fingerprint_local_weights(self.client, self.sampling.adapt))

    @property
    def _who(self) -> str:
        return f"judge {self._name} ({self.client.model} at {self.client.base_url})"

    def _probe(self, kind: str, examples: Sequence[JudgeRequest]) -> tuple[ReplyKind, Reply]:
        """Ask the longest example; where it does not fit a middling one; where it is refused for what it says others.

        Raises:
            InputError: the middling one does not fit either.
            JudgeUnavailableError: nothing is taken.
        """
        missed: list[Reply] = []
        for request in probe.chosen(kind, examples):
            prompt = render(request, self.templates)
            self.count_tokens(prompt.messages)  # a tokenizer that is not there is said now
            kind_of_reply = prompt.template.reply
            reply = self.client.probe(ChatCall(prompt.messages, self._body(kind_of_reply)))
            missed += [reply] if reply.status in ("over_length", "refused") else []
            if reply not in missed or [item.status for item in missed].count("over_length") > 1:
                break
        max_tokens = self.sampling.reply_tokens(kind_of_reply)
        probe.refuse_failed(self._who, reply, max_tokens)
        for missing in missed:
            self._note(probe.does_not_fit_all(self._who, missing, max_tokens))
        return kind_of_reply, reply

    @property
    def weights_fingerprint(self) -> str:
        """The fingerprint of a local server's weights once measured; "" before, and for a provider's judge."""
        return self.client.measured_fingerprint

    def _check_preference(self, reply: Reply) -> None:
        source = self.sampling.preference_from
        if source in ("samples", "token"):
            probe.refuse_silent(self._who, reply)
        else:
            probe.refuse_without_logprobs(self._who, source, reply)
        if source == "choice":
            neither = ChatCall(probe.NEITHER_M, self.sampling.body("token"))
            probe.refuse_unconstrained(self._who, self.client.probe(neither))

    def judge(self, requests: Sequence[JudgeRequest], model_id: str, on_judgment: OnJudgment) -> None:
        asked: list[tuple[JudgeRequest, Prompt]] = []
        for request in requests:
            prompt = render(request, self.templates)
            verdict = self._without_asking(request, prompt)
            if verdict is None:
                asked.append((request, prompt))
            else:
                on_judgment(self._judgment(request, prompt, model_id, {"returned_model": "", **verdict}))
        if asked:
            self._note(fingerprint_local_weights(self.client, self.sampling.adapt))
            try:
                self._ask(asked, model_id, on_judgment)
            finally:
                for note in self.client.notes:
                    self._note(note)

    def _ask(self, asked: Sequence[tuple[JudgeRequest, Prompt]], model_id: str, on_judgment: OnJudgment) -> None:
        """Send the requests of all verdicts, and hand over each verdict when its last reply is there."""
        calls = [(place, call) for place, pair in enumerate(asked) for call in self._calls(*pair)]
        waiting: dict[int, list[Reply]] = {}

        def on_reply(index: int, reply: Reply) -> None:
            place = calls[index][0]
            request, prompt = asked[place]
            self._note_model(reply.model)
            replies = waiting.setdefault(place, [])
            replies.append(reply)
            if len(replies) == self.sampling.requests(prompt.template.reply):
                verdict = self._verdict(request, prompt, waiting.pop(place))
                on_judgment(self._judgment(request, prompt, model_id, verdict))

        self.client.run([call for _, call in calls], on_reply)

    def _judgment(self, request: JudgeRequest, prompt: Prompt, model_id: str, verdict: Verdict) -> Judgment:
        return judgment_of(request, model_id, self.id, self.client.model, prompt_hash=prompt.hash, **verdict)

    def calls(self, request: JudgeRequest) -> list[ChatCall]:
        """Return what would be sent for a verdict on `request`; [] if none need be. Nothing is sent."""
        prompt = render(request, self.templates)
        return [] if self._without_asking(request, prompt) is not None else self._calls(request, prompt)

    def _calls(self, request: JudgeRequest, prompt: Prompt) -> list[ChatCall]:
        """Return the requests that make one verdict."""
        reply_kind = prompt.template.reply

        def is_good(reply: Reply) -> bool:
            return bool(self._read(reply_kind, request.candidate_first, reply))

        numbers = range(self.sampling.requests(reply_kind))
        version = prompt.template.version
        return [
            ChatCall(prompt.messages, self._body(reply_kind, number), version, is_good, number, request.repeat)
            for number in numbers
        ]

    def _without_asking(self, request: JudgeRequest, prompt: Prompt) -> Verdict | None:
        """Return a verdict that needs no server: on two equal answers, or on a prompt that cannot fit."""
        if request.kind == "preference" and request.candidate == request.baseline:
            details = {"preference_from": "equal answers"}
            return {"status": "ok", "preference": 1.5, "details": details, "price_usd": 0.0}
        reply_tokens = self.sampling.reply_tokens(prompt.template.reply)
        if too_long := outgrown(prompt.messages, reply_tokens, self.context_tokens, self.count_tokens):
            return {"status": "over_length", "raw": too_long, "price_usd": 0.0}
        return None

    def _verdict(self, request: JudgeRequest, prompt: Prompt, replies: Sequence[Reply]) -> Verdict:
        """Return the judgment's fields that a verdict's replies give."""
        reply_kind, source = prompt.template.reply, self.sampling.preference_from
        from_store = all(reply.stored for reply in replies)
        details: dict[str, Any] = {"template": prompt.template.name, "from_store": from_store}
        if self.client.weights_fingerprint:
            details["weights_fingerprint"] = self.client.weights_fingerprint
        if reply_kind == "token":
            details["preference_from"] = source
        if reply_kind == "token" and source == "samples":
            return {**self._usage(replies), **_verdict_of_samples(replies, request.candidate_first, details)}
        (reply,) = replies
        fields: Verdict = {"status": _JUDGMENT_STATUS[reply.status], "raw": reply.text}
        if reply.error:
            details["why"] = reply.error
        if reply.status in KEPT:
            read = self._read(reply_kind, request.candidate_first, reply)
            if reply_kind == "token" and reply.top_logprobs:
                details["top_logprobs"] = dict(reply.top_logprobs)
            if reply_kind == "rating" and self.templates == "official":
                details |= parse.beside_fastchat(reply.text, (read or {}).get("score"))
            if not read:
                details |= unread_details(reply, self.sampling.reply_tokens(reply_kind))
            fields |= read or {"status": "parse_error"}
        return {**self._usage(replies), **fields, "details": details}

    def _read(self, reply_kind: ReplyKind, candidate_first: bool, reply: Reply) -> Verdict | None:
        """Read {"score": x} or {"preference": x} out of one reply; None if the judge could not say."""
        if reply_kind == "rating":
            score = parse.read_grade(reply.text, strict=self.templates == "seft-bench")
            return None if score is None else {"score": score}
        preference: float | None
        if reply_kind == "verdict":
            preference = parse.read_verdict(reply.text, candidate_first)
        elif self.sampling.preference_from == "logprobs":
            preference = parse.preference_from_logprobs(reply.top_logprobs or {}, candidate_first)
        elif self.sampling.preference_from == "choice":
            preference = parse.preference_from_choice(reply.top_logprobs or {}, candidate_first)
        else:
            preference = parse.read_token(reply.text, candidate_first)
        return None if preference is None else {"preference": preference}

    def _usage(self, replies: Sequence[Reply]) -> Verdict:
        """Return model, time and cost over all replies of one verdict; a sum is None if a part is unknown."""
        latencies = [reply.latency_seconds for reply in replies if reply.latency_seconds is not None]
        return {
            "returned_model": " + ".join(sorted({reply.model for reply in replies if reply.model})),
            "prompt_tokens": _sum([reply.prompt_tokens for reply in replies]),
            "completion_tokens": _sum([reply.completion_tokens for reply in replies]),
            "latency_seconds": max(latencies, default=None),
            "price_usd": _sum([self._price_usd(reply) for reply in replies]),
            "judged_at": max(reply.received_at for reply in replies),
        }

    def _price_usd(self, reply: Reply) -> float | None:
        """Return the price of this reply now; None if prices or token counts are unknown."""
        if reply.stored:
            return 0.0
        if reply.prompt_tokens is None or reply.completion_tokens is None:
            return None
        return self.price.usd(reply.prompt_tokens, reply.completion_tokens)

    def _note_model(self, returned: str) -> None:
        if returned and returned != self.client.model:
            self._note(f"asked for model {self.client.model}, the server returned {returned}")

    def _note(self, note: str) -> None:
        if note and note not in self.notes:
            self.notes.append(note)


def _unread_status(reply: Reply) -> Status:
    """Return the status of a sample in which no verdict was found."""
    return "parse_error" if reply.status == "ok" else _JUDGMENT_STATUS[reply.status]


def _verdict_of_samples(replies: Sequence[Reply], candidate_first: bool, details: Mapping[str, Any]) -> Verdict:
    """Return status, preference and details of several samples; `raw` holds the texts as a JSON list."""
    texts = [reply.text if reply.status == "ok" else None for reply in replies]
    preference, counts = parse.preference_from_samples(texts, candidate_first)
    unread = [
        reply
        for reply, text in zip(replies, texts, strict=True)
        if text is None or parse.read_token(text, candidate_first) is None
    ]
    failures: Counter[Status] = Counter(_unread_status(reply) for reply in unread)
    status = "ok" if preference is not None else failures.most_common(1)[0][0]
    raw = json.dumps([reply.text for reply in replies], ensure_ascii=False)
    return {"status": status, "preference": preference, "raw": raw, "details": {**details, **counts}}


def _sum(values: Sequence[NumberT | None]) -> NumberT | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _client_of(config: OpenAIJudgeConfig, store_path: Path | None) -> ChatClient:
    from seft_bench.judges import missing_key

    on_missing_key = functools.partial(missing_key, config.name)
    return open_client(config, config.model, store_path, epoch=config.epoch, on_missing_key=on_missing_key)


def _sampling_of(config: OpenAIJudgeConfig) -> Sampling:
    return Sampling(
        preference_from=config.preference_from,
        samples=config.samples or Sampling.samples,
        temperature=config.temperature,
        max_tokens=config.max_tokens,
        max_tokens_parameter=config.max_tokens_parameter,
        send_temperature=config.send_temperature,
        send_top_p=config.send_top_p,
        seed=config.seed,
        extra_body=config.extra_body,
    )
