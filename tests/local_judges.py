"""Preferences of a local judge, computed without its code."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any

from seft_bench.chat import render
from seft_bench.judges.prompts import render as render_prompt
from seft_bench.records import JudgeRequest


def with_config(folder: Path, **values: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    return folder


@functools.cache
def loaded(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder).eval()


def independent_preference(folder: Path, request: JudgeRequest) -> float:
    """One unpadded forward pass, the two letters' raw logits, and nothing of the judge's code but the prompt."""
    import torch

    tokenizer, model = loaded(folder)
    text = render(tokenizer, render_prompt(request, "seft-bench").messages)
    with torch.no_grad():
        logits = model(torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])).logits[0, -1].double()
    letters = {letter: float(logits[tokenizer.convert_tokens_to_ids(letter)]) for letter in ("m", "M")}
    probability_of_m = 1 / (1 + math.exp(letters["M"] - letters["m"]))
    return 1 + (probability_of_m if request.candidate_first else 1 - probability_of_m)
