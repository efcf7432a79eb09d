"""Judges: `open_judge` makes one from a config; `JUDGES` names the kinds there are.

A judge over an existing protocol is a YAML file only; a new kind is one file with a class that has `base.Judge`'s
methods and `from_config`, a config, and one loader here (docs/add-a-judge.md).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from seft_bench.config import (
    JudgeConfig,
    OpenAIJudgeConfig,
    ReplayJudgeConfig,
    RewardModelJudgeConfig,
    RubricJudgeConfig,
    TransformersJudgeConfig,
    VLLMJudgeConfig,
    load_judge,
    shipped,
)
from seft_bench.errors import InputError, unknown_name
from seft_bench.inference.addresses import shown_url
from seft_bench.judges.base import Judge

__all__ = ["JUDGES", "Judge", "missing_key", "open_judge", "state_of", "usable_judges"]


# A loader a kind: its module is imported when a judge of that kind is opened, and its class is checked for `Judge`.


def _rubric(config: RubricJudgeConfig, store_path: Path | None) -> Judge:
    from seft_bench.judges.rubric import RubricJudge

    return RubricJudge.from_config(config, store_path)


def _replay(config: ReplayJudgeConfig, store_path: Path | None) -> Judge:
    from seft_bench.judges.replay import ReplayJudge

    return ReplayJudge.from_config(config, store_path)


def _openai(config: OpenAIJudgeConfig, store_path: Path | None) -> Judge:
    from seft_bench.judges.openai_compatible import OpenAIJudge

    return OpenAIJudge.from_config(config, store_path)


def _vllm(config: VLLMJudgeConfig, store_path: Path | None) -> Judge:
    from seft_bench.judges.vllm import VLLMJudge

    return VLLMJudge.from_config(config, store_path)


def _transformers(config: TransformersJudgeConfig, store_path: Path | None) -> Judge:
    from seft_bench.judges.transformers import TransformersJudge

    return TransformersJudge.from_config(config, store_path)


def _reward_model(config: RewardModelJudgeConfig, store_path: Path | None) -> Judge:
    from seft_bench.judges.reward_model import RewardModelJudge

    return RewardModelJudge.from_config(config, store_path)


JUDGES: dict[str, Callable[[Any, Path | None], Judge]] = {
    "rubric": _rubric,
    "replay": _replay,
    "openai": _openai,
    "vllm": _vllm,
    "transformers": _transformers,
    "reward-model": _reward_model,
}
"""Kind of a judge (`JudgeConfig.kind`) -> its loader. `Any` is the config of that very kind, which `kind` selects."""


def open_judge(config: JudgeConfig, store_path: Path | None = None) -> Judge:
    """Open the judge of a config. Nothing is sent: `check` does that.

    Args:
        store_path: the response store for judges that cost something; None keeps nothing.

    Raises:
        InputError: the judge is retired, or a file that it needs is missing.
    """
    if config.kind not in JUDGES:
        raise unknown_name("kind of judge", config.kind, JUDGES)
    if isinstance(config, OpenAIJudgeConfig):
        _refuse_retired(config)
    return JUDGES[config.kind](config, store_path)


def state_of(config: JudgeConfig) -> str:
    """Tell whether a judge can be used here and now, as far as that is known without asking its server."""
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
    """List the shipped judges that can be used now (not retired, key set if they need one), each with its use."""
    lines = []
    for name in shipped("judges"):
        config = load_judge(name)
        if isinstance(config, OpenAIJudgeConfig):
            if _is_retired(config) or (config.api_key_env and not os.environ.get(config.api_key_env)):
                continue
            lines.append(f"--judge {name} ({config.model} at {shown_url(config.base_url)})")
        elif config.kind == "rubric":
            lines.append(f"--judge {name} (tiny suites only)")
    return lines


def missing_key(judge: str, variable: str) -> InputError:
    """Return the error for a judge whose key is not set; it names the judges that would work."""
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
