"""What the tests against TRL share: its chat templates over tiny tokenizers, its trainers' settings, rows and batches.

Templates are read from the installed package, and nothing of them is kept here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from seft_bench.chat import load_tokenizer
from training.checkpoint import load_classifier, load_config, load_model
from training.data import data_rules, load_examples
from training.precision import weights_dtype
from training.reference import reference_logprobs
from training.run import Run
from training.settings import TrainJob, TrainSettings
from training.tokens import Example, Tokens

TAKES_LISTS = ("idefics3", "llava_next", "smolvlm")
"""Templates of models for pictures, whose messages hold lists."""
OPENED_OTHERWISE = ("deepseek", "nemotron")
"""Templates that write `<think>` for sampling, and something else in a conversation."""
WRITES_NO_STOP = ("glm4moe",)
"""Templates without any stop token behind an answer."""
CONTROL = re.compile(
    r"<\|[^|<>{}\n]+\|>|<\uff5c[^\uff5c\n]+\uff5c>|</?think>|<(?:start|end)_of_\w+>|<\|?turn\|?>|\[/?INST\]|</?s>"
)
TRAINER_SETTINGS = {
    "report_to": "none",
    "bf16": False,
    "use_cpu": True,
    "gradient_checkpointing": False,
    "disable_tqdm": True,
    "max_length": 512,
}
"""Settings in which TRL's trainers do what ours does: one format throughout, nothing else logged or reported."""


def templates() -> dict[str, str]:
    """Name -> source of every chat template that TRL ships."""
    trl = pytest.importorskip("trl")
    folder = Path(trl.__file__).parent / "chat_templates"
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jinja"))}


def family(make: Callable[..., Any], source: str) -> Any:
    """Make a tokenizer with a template and all its control tokens, half of which only tokenizer.json knows."""
    control = list(dict.fromkeys(CONTROL.findall(source)))
    thinking = [token for token in control if "think" in token]
    special = [token for token in control if token not in thinking]
    half = len(special) // 2
    known, hidden = special[:half], special[half:]
    return make(source, "<|eos|>", special=known, hidden=hidden, plain=thinking, bos_token="<|bos|>")


def conversational(row: dict[str, Any], *answers: str) -> dict[str, Any]:
    """A row as TRL reads it: answers are lists of messages, too."""
    return {"prompt": row["prompt"], **{name: [{"role": "assistant", "content": row[name]}] for name in answers}}


def gradients(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def labels_of(sequence: Tokens) -> list[int]:
    """The ids of a prompt and its answer, -100 in place of the prompt's."""
    return [-100] * sequence.prompt_tokens + list(sequence.ids[sequence.prompt_tokens :])


def sft_features(examples: Sequence[Example]) -> list[dict[str, Any]]:
    """Our token ids as SFTTrainer's collator takes them."""
    return [{"input_ids": list(one.chosen.ids), "labels": labels_of(one.chosen)} for one in examples]


def dpo_features(examples: Sequence[Example]) -> list[dict[str, Any]]:
    """Our token ids as DPOTrainer's collator takes them."""
    return [
        {"prompt_ids": list(one.chosen.ids[: one.chosen.prompt_tokens])}
        | {
            f"{side}_ids": list(sequence.ids[sequence.prompt_tokens :])
            for side, sequence in zip(("chosen", "rejected"), one.sequences, strict=True)
        }
        for one in examples
    ]


def orpo_features(examples: Sequence[Example]) -> list[dict[str, Any]]:
    """Our token ids as ORPOTrainer's collator takes them."""
    features = []
    for example in examples:
        feature: dict[str, Any] = {}
        for side, sequence in zip(("chosen", "rejected"), example.sequences, strict=True):
            ids = list(sequence.ids)
            feature |= {f"{side}_input_ids": ids, f"{side}_attention_mask": [1] * len(ids)}
            feature[f"{side}_labels"] = labels_of(sequence)
        features.append(feature)
    return features


def nll_of_answers(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """ORPO's NLL term over the chosen answers' tokens, from the model's own loss over TRL's labels."""
    loss: torch.Tensor = model(
        input_ids=batch["chosen_input_ids"],
        attention_mask=batch["chosen_attention_mask"],
        labels=batch["chosen_labels"],
    ).loss
    return loss


ROWS = [
    {
        "prompt": [{"role": "user", "content": f"What is {number} plus two{' please' * (number % 3)}?"}],
        "chosen": f"It is {number + 2}, and the fox" + " jumps" * (number % 4),
        "rejected": "The lazy dog" + " sleeps" * (number % 5),
    }
    for number in range(6)
]


def one_step(batch_size: int, precision: Literal["float32", "bfloat16"] = "float32") -> TrainSettings:
    return TrainSettings(
        learning_rate=1e-3,
        max_steps=1,
        global_batch_size=batch_size,
        micro_batch_size=4,
        device="cpu",
        precision=precision,
    )


def ours(
    tmp_path: Path,
    model: Path,
    loss: str,
    rows: Sequence[dict[str, Any]],
    reference: Path | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    **loss_settings: float,
) -> Any:
    """(loss and metrics, gradients by name) of one global batch, in micro-batches of 4 and 2."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dtype = weights_dtype(one_step(1, precision))
    job = TrainJob(one_step(len(rows), precision), loss, loss_settings)
    examples, _ = load_examples(path, load_tokenizer(model), data_rules(job, load_config(model)))
    sums = (
        None
        if reference is None
        else reference_logprobs(lambda: load_model(reference, dtype), "reference", examples, job, tmp_path / "cache")
    )
    load = load_classifier if job.loss_entry.is_of_rewards else load_model
    run = Run(load(model, dtype), examples, sums, job)
    measured = run._forward_backward(range(len(rows)))
    return {name: value.item() for name, value in measured.items()}, gradients(run.model), examples


def trl_batch(trainer: Any) -> dict[str, torch.Tensor]:
    """All rows as one batch, collated by TRL."""
    return trainer.data_collator([trainer.train_dataset[index] for index in range(len(trainer.train_dataset))])


def assert_same_gradients(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    """To 1e-4 relative; what cancels out in a sum is as uncertain as the sum's largest parts."""
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(
            gradient,
            theirs[name],
            rtol=1e-4,
            atol=1e-5 * max(1.0, float(gradient.abs().max())),
            msg=lambda text, name=name: f"{name}: {text}",
        )
