"""A causal language model in this process as a judge: no server, no key, no price.

It reads the same prompts as a served judge, through its own chat template. Grades and verdicts are written greedily and
parsed by the same rules. A preference is exact: the model's own probabilities of "m" and "M" as the next token, where a
server would return the few likeliest tokens only. The model is loaded at the first question and dropped after the last.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seft_bench.chat import next_token_id, prompt_ids
from seft_bench.checkpoints.batches import Batches, free_memory
from seft_bench.config import TransformersJudgeConfig
from seft_bench.errors import InputError
from seft_bench.files import sha256_json
from seft_bench.judges import parse
from seft_bench.judges.base import BaseJudge, OnJudgment, judgment_of
from seft_bench.judges.local import LocalModel
from seft_bench.judges.prompts import Prompt, TemplateSet, render, template_versions
from seft_bench.manifest import now
from seft_bench.records import JudgeRequest, Judgment, Message, Question

if TYPE_CHECKING:
    from seft_bench.generators.conversations import Completion
    from seft_bench.generators.transformers import TransformersGenerator

MAX_TOKENS = 2048
"""Of a grade or verdict, as in fastchat/llm_judge/common.py."""

Verdict = dict[str, Any]
_PROBE = Question(suite="probe", id="probe", category="", turns=("What colour is the clear sky by day?",))


@dataclass(frozen=True)
class Asked:
    """One request with its prompt and the prompt's token ids."""

    request: JudgeRequest
    prompt: Prompt
    ids: list[int]


class TransformersJudge(BaseJudge):
    """A causal language model as a judge; `config.TransformersJudgeConfig` explains the arguments."""

    def __init__(
        self,
        name: str,
        model: LocalModel,
        *,
        templates: TemplateSet = "official",
        max_tokens: int | None = None,
        batch_size: int = 16,
    ) -> None:
        self.model, self.templates, self.batch_size = model, templates, batch_size
        self.max_tokens = max_tokens or MAX_TOKENS
        self._name = name
        self._tokens: dict[str, int] = {}
        self.notes: list[str] = []

    @classmethod
    def from_config(cls, config: TransformersJudgeConfig, store_path: Path | None = None) -> TransformersJudge:
        model = LocalModel(config.name, config.model, config.device, config.context_tokens, config.trust_remote_code)
        return cls(
            config.name, model, templates=config.templates, max_tokens=config.max_tokens, batch_size=config.batch_size
        )

    @functools.cached_property
    def id(self) -> str:
        """Name and hash of what can change a verdict: model, wording, sampling, how a preference is read."""
        settings = {
            **self.model.identity,
            "templates": [self.templates, template_versions(self.templates)],
            "sampling": {"temperature": 0.0, "max_tokens": self.max_tokens},
            "preference_from": "logits",
        }
        return f"{self._name}-{sha256_json(settings)[:8]}"

    def check(self, kinds: Collection[str], examples: Sequence[JudgeRequest] = ()) -> None:
        """Find all that can be wrong without the weights: architecture, tokenizer, template, prompts, context.

        Raises:
            InputError: the first thing that is wrong.
        """
        self.model.check_architecture(
            ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration"), "a causal language model"
        )
        for kind in sorted(kinds):
            asked = self._asked(_probe_request(kind))
            if asked.prompt.template.reply == "token":
                self._verdict_tokens(asked.prompt.messages)
            self._check_room(asked)

    def judge(self, requests: Sequence[JudgeRequest], model_id: str, on_judgment: OnJudgment) -> None:
        wanted: list[Asked] = []
        for request in requests:
            asked = self._asked(request)
            if (verdict := self._without_asking(asked)) is not None:
                on_judgment(self._judgment(asked, model_id, verdict))
            else:
                wanted.append(asked)
        if not wanted:
            return
        try:
            with self.model.memory_guard():
                self._ask(wanted, model_id, on_judgment)
        finally:
            free_memory()

    def _ask(self, wanted: Sequence[Asked], model_id: str, on_judgment: OnJudgment) -> None:
        """Load the judge, put the questions to it in batches, and hand over each batch's verdicts when it is done."""
        generator, sizes = self._load(), Batches(self.batch_size, f"judge {self._name}")
        for is_token, answer in ((True, self._compare), (False, self._write)):
            chosen = [asked for asked in wanted if (asked.prompt.template.reply == "token") == is_token]
            by_length = sorted(chosen, key=lambda asked: len(asked.ids))
            for asked, verdict in sizes.over(by_length, functools.partial(answer, generator)):
                on_judgment(self._judgment(asked, model_id, verdict))

    def _asked(self, request: JudgeRequest) -> Asked:
        prompt = render(request, self.templates)
        try:
            return Asked(request, prompt, prompt_ids(self.model.tokenizer, prompt.messages))
        except InputError as error:
            raise InputError(f"judge {self._name} ({self.model.name}): {error}") from None

    def _check_room(self, asked: Asked) -> None:
        reply, context = self._reply_tokens(asked.prompt), self.model.context_tokens
        if len(asked.ids) + reply > context:
            raise InputError(
                f"judge {self._name}: even a short {asked.request.kind} prompt takes {len(asked.ids)} tokens and its "
                f"reply up to {reply}; the context of {self.model.name} has {context}. Set a smaller max_tokens in the "
                "judge's YAML, or use a model with a longer context."
            )

    def _reply_tokens(self, prompt: Prompt) -> int:
        return 1 if prompt.template.reply == "token" else self.max_tokens

    def _without_asking(self, asked: Asked) -> Verdict | None:
        """Return a verdict that needs no model: on two equal answers, or a prompt that does not fit, as none is cut."""
        if asked.request.kind == "preference" and asked.request.candidate == asked.request.baseline:
            return {"status": "ok", "preference": 1.5, "details": {"preference_from": "equal answers"}}
        needed = len(asked.ids) + self._reply_tokens(asked.prompt)
        limit = self.model.context_tokens
        if needed > limit:
            why = f"not asked: {needed} tokens with the reply, the judge's context has {limit}"
            return {"status": "over_length", "raw": why}
        return None

    def _load(self) -> TransformersGenerator:
        """The judge with its weights; it knows its own name only, never whose answers it reads."""
        from seft_bench.generators.transformers import TransformersGenerator

        model = self.model
        return TransformersGenerator(
            model.folder,
            model.name,
            batch_size=self.batch_size,
            device=model.device,
            trust_remote_code=model.trust_remote_code,
        )

    def _compare(self, generator: TransformersGenerator, batch: Sequence[Asked]) -> list[Verdict]:
        """Preferences from the next token's log-probabilities over the whole vocabulary."""
        logprobs = generator.next_token_logits([asked.ids for asked in batch]).log_softmax(dim=-1)
        likeliest = logprobs.argmax(dim=-1).tolist()
        verdicts = []
        for asked, row, best in zip(batch, logprobs, likeliest, strict=True):
            tokens = self._verdict_tokens(asked.prompt.messages)
            found = {letter: float(row[token]) for letter, token in tokens.items()}
            preference = _preference(asked, found, generator.tokenizer.decode([best]))
            verdicts.append({"prompt_tokens": len(asked.ids), "completion_tokens": 1, **preference})
        return verdicts

    def _verdict_tokens(self, messages: Sequence[Message]) -> Mapping[str, int]:
        """Letter -> its one token after the prompt.

        It is the same after every prompt, as the template ends them all alike.
        """
        if not self._tokens:
            for letter in ("m", "M"):
                token = next_token_id(self.model.tokenizer, messages, letter)
                if token is None:
                    raise InputError(
                        f"judge {self._name}: after a prompt, {self.model.name} does not write {letter!r} as one token "
                        "(its tokenizer splits it, or its chat template opens an answer with something else, such as "
                        "reasoning), so no probability belongs to it. Use another model for preferences."
                    )
                self._tokens[letter] = token
        return self._tokens

    def _write(self, generator: TransformersGenerator, batch: Sequence[Asked]) -> list[Verdict]:
        """Grades and verdicts in words, greedily."""
        from seft_bench.generators.conversations import Sampling

        samplings = [Sampling(asked.request.key, temperature=0.0) for asked in batch]
        completions = generator.complete([asked.prompt.messages for asked in batch], samplings, self.max_tokens, seed=0)
        return [
            {
                "raw": completion.text,
                "prompt_tokens": completion.prompt_tokens,
                "completion_tokens": completion.completion_tokens,
                **self._read(asked, completion),
            }
            for asked, completion in zip(batch, completions, strict=True)
        ]

    def _read(self, asked: Asked, completion: Completion) -> Verdict:
        """Read a verdict as a served judge's is read: nothing inside the reasoning is one."""
        text, first = completion.text, asked.request.candidate_first
        details: dict[str, Any] = {
            "template": asked.prompt.template.name,
            "finish_reason": completion.finish_reason,
        }
        if asked.prompt.template.reply == "rating":
            score = parse.read_grade(text, strict=self.templates == "seft-bench")
            details |= parse.beside_fastchat(text, score) if self.templates == "official" else {}
            return _stated("score", score, details)
        return _stated("preference", parse.read_verdict(text, first), details)

    def _judgment(self, asked: Asked, model_id: str, verdict: Verdict) -> Judgment:
        fixed: Verdict = {"prompt_hash": asked.prompt.hash, "price_usd": 0.0, "judged_at": now()}
        return judgment_of(asked.request, model_id, self.id, self.model.name, **fixed | verdict)


def _stated(name: str, value: float | None, details: Mapping[str, Any]) -> Verdict:
    return {"status": "parse_error" if value is None else "ok", name: value, "details": details}


def _preference(asked: Asked, logprobs: Mapping[str, float], likeliest: str) -> Verdict:
    """Return a preference from the two log-probabilities; `mass` is the share of all probability that they hold."""
    if any(math.isnan(value) for value in logprobs.values()):
        return {"status": "api_error", "raw": "the model's logits are not numbers (overflow in its number format?)"}
    finite = {letter: value for letter, value in logprobs.items() if math.isfinite(value)}
    details = {
        "template": asked.prompt.template.name,
        "preference_from": "logits",
        "logprobs": finite,
        "mass": sum(map(math.exp, finite.values())),
    }
    preference = parse.preference_from_logprobs(finite, asked.request.candidate_first)
    if preference is None:
        return {"status": "parse_error", "raw": likeliest, "details": details}
    return {"status": "ok", "preference": preference, "raw": likeliest, "details": details}


def _probe_request(kind: str) -> JudgeRequest:
    if kind == "grade":
        return JudgeRequest("grade", _PROBE, 1, ("Blue.",))
    return JudgeRequest("preference", _PROBE, 1, ("Blue.",), ("Green.",))
