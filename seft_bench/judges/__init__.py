"""Judges: `open_judge` makes one of a config; `JUDGES` says which kinds there are.

A judge over an existing protocol is a YAML file only (docs/add-a-judge.md); a new kind is one file with a class that
has `base.Judge`'s methods and `from_config`, and one line here.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import cast

from seft_bench.config import JudgeConfig, OpenAIJudgeConfig, load_judge, shipped
from seft_bench.errors import InputError, unknown_name
from seft_bench.judges.base import Judge

JUDGES = {
    "rubric": "seft_bench.judges.rubric:RubricJudge",
    "replay": "seft_bench.judges.replay:ReplayJudge",
    "openai": "seft_bench.judges.openai_compatible:OpenAIJudge",
    "vllm": "seft_bench.judges.vllm:VLLMJudge",
    "transformers": "seft_bench.judges.transformers:TransformersJudge",
    "reward-model": "seft_bench.judges.reward_model:RewardModelJudge",
}

__all__ = ["JUDGES", "Judge", "missing_key", "open_judge", "state_of", "usable_judges"]


def open_judge(config: JudgeConfig, store_path: Path | None = None) -> Judge:
    """The judge of a config. Nothing is sent: `check` does that.

    Args:
        store_path: the response store for judges that cost something; None keeps nothing.

    Raises:
        InputError: the judge is retired, or a file that it needs is missing.
    """
    if config.kind not in JUDGES:
        raise unknown_name("kind of judge", config.kind, JUDGES)
    if isinstance(config, OpenAIJudgeConfig):
        _refuse_retired(config)
    module, _, name = JUDGES[config.kind].partition(":")
    kind = getattr(import_module(module), name)
    return cast(Judge, kind.from_config(config, store_path))


def state_of(config: JudgeConfig) -> str:
    """Whether a judge can be used here and now, as far as one can tell without asking its server."""
    if isinstance(config, OpenAIJudgeConfig):
        if _is_retired(config):
            return f"retired since {config.retired_on}"
        if config.api_key_env and not os.environ.get(config.api_key_env):
            return f"key missing: {config.api_key_env}"
        return f"ready until {config.retired_on}" if config.retired_on else "ready"
    if config.kind == "replay" and not Path(config.path).exists():
        return f"file missing: {config.path}"
    if config.kind == "vllm":
        return _state_of_model(config.model)
    return "ready"


def _state_of_model(name: str) -> str:
    from seft_bench.judges.vllm import find_model

    try:
        find_model(name)
    except InputError:
        return f"model missing: {name}"
    return "ready"


def usable_judges() -> list[str]:
    """Shipped judges that could be used now, each with what it is for: not retired, and their key (if any) is set."""
    lines = []
    for name in shipped("judges"):
        config = load_judge(name)
        if isinstance(config, OpenAIJudgeConfig):
            if _is_retired(config) or (config.api_key_env and not os.environ.get(config.api_key_env)):
                continue
            lines.append(f"--judge {name} ({config.model} at {config.base_url})")
        elif config.kind == "rubric":
            lines.append(f"--judge {name} (tiny suites only)")
    return lines


def missing_key(judge: str, variable: str) -> InputError:
    """The error for a judge whose key is not set, naming what would work."""
    return InputError(
        f"judge {judge} needs a key in {variable}, which is not set. Set it, or use another: {_alternatives()}."
    )


def _refuse_retired(config: OpenAIJudgeConfig) -> None:
    if _is_retired(config):
        raise InputError(
            f"judge {config.name}: its model {config.model} was shut down on {config.retired_on}, so nothing can be "
            "judged with it any more. Recorded judgments can still be scored (`seft-bench score`). Others: "
            f"{_alternatives()}."
        )


def _is_retired(config: OpenAIJudgeConfig) -> bool:
    return config.retired_on is not None and datetime.now(UTC).date() >= config.retired_on


def _alternatives() -> str:
    return "; ".join([*usable_judges(), "a YAML of your own, --judge FILE.yaml (docs/add-a-judge.md)"])
