"""Reward models: a decoder with one number in place of a language model's output layer, whole or as an adapter.

What transformers calls a sequence classification with one label. An adapter lies over a causal language model's weights
and brings the layer that gives the number with it, as peft saves it for the task SEQ_CLS.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from seft_bench.checkpoints import CONFIG, adapter_config, base_of, is_adapter, tokenizer_folder
from seft_bench.checkpoints.steps import read_object
from seft_bench.checkpoints.weights import load_config, load_whole
from seft_bench.errors import InputError

HEAD = "score"
"""The layer that gives the reward, by transformers' name for it in every decoder's classifier."""
ARCHITECTURE, TASK = "ForSequenceClassification", "SEQ_CLS"


def is_reward_model(folder: Path) -> bool:
    """Return whether a checkpoint classifies texts, as reward models do, rather than write them."""
    if is_adapter(folder):
        return bool(adapter_config(folder).get("task_type") == TASK)
    named = read_object(folder / CONFIG).get("architectures")
    return isinstance(named, list) and any(str(name).endswith(ARCHITECTURE) for name in named)


def check_writes(folder: Path, what: str) -> None:
    """Refuse a reward model where a model that writes answers is needed.

    Args:
        what: what messages call it.

    Raises:
        InputError: it is one.
    """
    if is_reward_model(folder):
        raise InputError(
            f"{what} {folder} is a reward model: it grades answers and writes none. Name it in a judge's YAML (`kind: "
            "reward-model`, docs/add-a-judge.md), or as what samples are graded by; a policy is a causal language model"
        )


def check_rewards(folder: Path) -> None:
    """Refuse another model where a reward model is needed.

    Raises:
        InputError: it is none, or has several outputs.
    """
    if not is_reward_model(folder):
        raise InputError(
            f"{folder} is no reward model: a sequence classification with one label is needed (architectures in its "
            "config.json), as `seft-bench train method=reward-model` makes it"
        )
    if not is_adapter(folder):
        check_outputs(load_config(folder), folder)


def load_reward_model(folder: Path, what: str = "reward model", **options: Any) -> Any:
    """Load a reward model; an adapter is laid over its base, merged where that loses nothing.

    Args:
        options: further arguments of `from_pretrained`.

    Raises:
        InputError: as of `load_whole`, or it has several outputs.
    """
    from transformers import AutoModelForSequenceClassification

    if is_adapter(folder):
        from seft_bench.checkpoints.merging import lay_over

        return lay_over(load_base(folder, **options), folder)
    model = load_whole(AutoModelForSequenceClassification, folder, what, **options)
    check_outputs(model.config, folder)
    return model


def adapted_config(adapter: Path, trust_remote_code: bool = False) -> Any:
    """Read the configuration that a reward model has which is an adapter: its base's, with the adapter's padding.

    Raises:
        InputError: as of `load_config`.
    """
    config = load_config(base_of(adapter), trust_remote_code)
    config.num_labels, config.architectures = 1, [f"Adapter{ARCHITECTURE}"]
    config.get_text_config().pad_token_id = padding_token(tokenizer_folder(adapter))
    return config


def load_base(adapter: Path, **options: Any) -> Any:
    """Load what an adapter lies over, as the kind of model that the adapter's task says.

    Raises:
        InputError: as of `load_whole`.
    """
    from transformers import AutoModelForCausalLM

    base = base_of(adapter)
    if is_reward_model(base):
        return load_reward_model(base, **options)
    model = load_whole(AutoModelForCausalLM, base, "causal language model", **options)
    if not is_reward_model(adapter):
        return model
    model = as_reward_model(model)
    model.score.float()  # as an adapter's weights are
    set_padding(model, padding_token(tokenizer_folder(adapter)))
    return model


def check_outputs(config: Any, folder: Path) -> None:
    """Refuse a classifier of several classes.

    Raises:
        InputError: it has another number of outputs than one.
    """
    if config.num_labels != 1:
        raise InputError(
            f"{folder} has {config.num_labels} outputs, and a reward model has one (num_labels in config.json)"
        )


def as_reward_model(causal: Any) -> Any:
    """Put one number in place of a causal language model's output layer; its decoder is taken, not copied.

    The new layer is all zeros: every reward begins at 0 and the loss at log 2, whatever the seed, and nothing that was
    drawn has to be unlearnt. The first update moves that layer alone, and all the others from the second on.

    Raises:
        InputError: transformers has no such classifier of this architecture.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    config = causal.config
    config.num_labels = 1
    name = type(causal).__name__
    try:
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config, dtype=causal.dtype)
    except ValueError:
        raise InputError(f"no reward model can be made of a {name}: transformers classifies no texts by it") from None
    decoder = model.base_model_prefix
    if decoder != causal.base_model_prefix or not hasattr(model, HEAD):
        raise InputError(f"no reward model can be made of a {name}: its classifier {type(model).__name__} differs")
    setattr(model, decoder, getattr(causal, decoder))
    model.config = config  # the decoder's own
    model.name_or_path = causal.name_or_path
    weight = torch.zeros(1, model.score.in_features, dtype=causal.dtype, device=causal.device)
    _set_head(model, torch.nn.Parameter(weight))
    if config.get_text_config().pad_token_id is None:
        set_padding(model, config.get_text_config().eos_token_id or 0)  # without one no batch can be read at all
    return model


def with_exact_head(model: Any) -> Any:
    """Let a reward model compute its rewards in float32, as one made by `as_reward_model` does; return it.

    Raises:
        InputError: its rewards come from another layer than a single linear one.
    """
    if not hasattr(getattr(model, HEAD, None), "weight"):
        raise InputError(f"{type(model).__name__} ({model.name_or_path}) has no layer {HEAD!r} to learn rewards by")
    _set_head(model, model.score.weight)
    return model


def _set_head(model: Any, weight: Any) -> None:
    head = _head_class()(weight.shape[1], dtype=weight.dtype, device="meta")
    head.weight = weight
    setattr(model, HEAD, head)


@functools.cache
def _head_class() -> Any:
    """Return the class of the layer that gives the reward: a linear one that computes in float32."""
    import torch

    class RewardHead(torch.nn.Linear):  # type: ignore[misc]
        """Rewards in bfloat16 would be told apart by halves of a percent only, where the loss is of differences."""

        def __init__(self, hidden_size: int, dtype: torch.dtype, device: str) -> None:
            super().__init__(hidden_size, 1, bias=False, dtype=dtype, device=device)

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            # "meta", where memory is only counted, knows no autocast.
            device = "cpu" if hidden.device.type == "meta" else hidden.device.type
            with torch.autocast(device, enabled=False):
                return torch.nn.functional.linear(hidden.float(), self.weight.float())

    return RewardHead


def padding_token(folder: Path) -> int | None:
    """Read the id that a checkpoint's tokenizer fills up with; None where it has none."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(folder)).pad_token_id  # type: ignore[no-any-return]


def set_padding(model: Any, token: int | None) -> None:
    """Say which id fills a batch up: transformers reads the reward at the last token that is another."""
    for part in (model.config, model.config.get_text_config()):
        part.pad_token_id = token
