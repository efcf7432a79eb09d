"""Requests to a reward model, and its figures computed without the judge's code."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seft_bench.config import RewardModelJudgeConfig
from seft_bench.judges import open_judge
from seft_bench.judges.reward_model import RewardModelJudge
from seft_bench.records import JudgeRequest, Judgment, Question
from tests.tiny_model import CHAT_TEMPLATE

QUESTION = Question("tiny", "q", "", ("Name three fish.", "And a bird?"), ("Pike, eel, trout.", "A wren."))


ANSWERS = ("Pike.", "Pike, eel and trout, all of them good.", "A river has fish. " * 6, "No.", "Eel!")


def judge_of(folder: Path, store: Path | None = None, **settings: Any) -> RewardModelJudge:
    values: dict[str, Any] = {"name": "reward", "kind": "reward-model", "model": str(folder), "device": "cpu"}
    judge = open_judge(RewardModelJudgeConfig(**values | settings), store)
    assert isinstance(judge, RewardModelJudge)
    return judge


def judged(judge: RewardModelJudge, requests: Sequence[JudgeRequest]) -> list[Judgment]:
    found: dict[tuple[str, str], Judgment] = {}
    judge.judge(requests, "somebody", lambda judgment: found.update({(judgment.key, judgment.answer_hash): judgment}))
    return [found[request.key, request.answer_hash] for request in requests]


@functools.cache
def loaded(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    return AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder).eval()


def independent_reward(folder: Path, *texts: str) -> float:
    """One unpadded forward pass over the template rendered by jinja itself."""
    import jinja2
    import torch

    tokenizer, model = loaded(folder)
    messages = [{"role": "assistant" if index % 2 else "user", "content": text} for index, text in enumerate(texts)]
    text = jinja2.Template(CHAT_TEMPLATE).render(
        messages=messages, bos_token=tokenizer.bos_token, add_generation_prompt=False
    )
    with torch.no_grad():
        return float(model(torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])).logits[0, 0])
