"""SFT, DPO and ORPO against TRL's own trainers, over every chat template for text that TRL ships.

One batch of the same conversational rows: the token ids, the loss and the gradient of every weight, in float32 and in
bfloat16. TRL's trainers tokenise the rows themselves. Their rows are ours, except for this, which is checked and then
taken out by giving TRL's collators our ids:

- TRL also learns what a template writes behind the stop token (a newline, an end of text). Nothing is ever sampled
  behind a stop token, and ours ends there.
- ORPOTrainer puts a BOS before prompts whose template writes none, and an EOS behind answers that have their stop token
  already.
- ORPOTrainer's NLL counts the prompt, ours the answer (as in the paper): that term is made from TRL's own labels.
- Templates that open an answer otherwise for sampling than in a conversation (`<think>`), and those that write no stop
  token: TRL then learns another context than the model is sampled with, or no end. Only loss and gradient are compared.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl", reason="needs the extra `trl`")

from seft_bench import chat
from tests.chat_tokenizers import byte_level, metaspace
from tests.trl_peers import (
    OPENED_OTHERWISE,
    TAKES_LISTS,
    TRAINER_SETTINGS,
    WRITES_NO_STOP,
    conversational,
    dpo_features,
    family,
    gradients,
    nll_of_answers,
    orpo_features,
    sft_features,
    templates,
)
from training.data import DataRules, load_examples
from training.loop import TrainJob, TrainSettings
from training.reference import reference_logprobs
from training.run import Run
from training.tokens import Example, Tokens

pytestmark = pytest.mark.peers

TEXT_TEMPLATES = [name for name in templates() if not name.startswith(TAKES_LISTS) and not name.endswith("_training")]
"""The `_training` ones only add marks for masks to what their namesakes write."""
SENTENCEPIECE = ("gemma", "phi3")
MAX_LENGTH = 2048
"""Tokens, of which a template's own preamble takes up to 1,100 in a byte-level vocabulary."""
LOSSES: dict[str, dict[str, float]] = {"sft": {}, "dpo": {"beta": 0.1}, "orpo": {"beta": 0.3}}
EARLIER = [chat.user("Name three fish."), chat.assistant("Carp, tuna, cod.")]
ROWS = [
    {
        "prompt": [*EARLIER[: 2 * (number % 2)], chat.user(f"What is {number} plus two?")],
        "chosen": f"It is {number + 2}, and the fox" + " jumps" * (number % 4),
        "rejected": "The lazy dog" + " sleeps" * (number % 5),
    }
    for number in range(6)
]


@dataclass(frozen=True)
class Peers:
    """One template: its tokenizer, two tiny models, our examples, and TRL's trainers over the same rows."""

    name: str
    tokenizer: Any
    policy: Any
    reference: Any
    examples: dict[str, list[Example]]
    trainers: dict[str, Any]
    folder: Path


@pytest.fixture(scope="module", params=TEXT_TEMPLATES)
def peers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Peers:
    name, folder = request.param, tmp_path_factory.mktemp(request.param)
    tokenizer = family(metaspace if name.startswith(SENTENCEPIECE) else byte_level, templates()[name])
    tokenizer.pad_token = tokenizer.eos_token
    policy, reference = (tiny_llama(len(tokenizer), seed) for seed in (5, 6))
    examples = {loss: our_examples(folder, tokenizer, pairs=loss != "sft") for loss in LOSSES}
    trainers = trainers_of(policy, reference, tokenizer, folder)
    return Peers(name, tokenizer, policy, reference, examples, trainers, folder)


def tiny_llama(vocab_size: int, seed: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_LENGTH,
        tie_word_embeddings=True,
        initializer_range=0.2,  # answers differ clearly in likelihood
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def our_examples(folder: Path, tokenizer: Any, *, pairs: bool) -> list[Example]:
    rows = ROWS if pairs else [{"prompt": row["prompt"], "answer": row["chosen"]} for row in ROWS]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_examples(path, tokenizer, DataRules(MAX_LENGTH, "pairs" if pairs else "answers"))[0]


def trainers_of(model: Any, reference: Any, tokenizer: Any, folder: Path) -> dict[str, Any]:
    """TRL's trainers, which tokenise the rows when they are made."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    settings: dict[str, Any] = TRAINER_SETTINGS | {"max_length": MAX_LENGTH, "output_dir": str(folder / "trl")}
    single = [conversational(row | {"completion": row["chosen"]}, "completion") for row in ROWS]
    pairs = [conversational(row, "chosen", "rejected") for row in ROWS]
    dpo_settings = settings | LOSSES["dpo"]
    orpo_settings = settings | LOSSES["orpo"] | {"remove_unused_columns": False}

    def given(rows: list[dict[str, Any]]) -> dict[str, Any]:
        return {"model": copy.deepcopy(model), "train_dataset": Dataset.from_list(rows), "processing_class": tokenizer}

    return {
        "sft": SFTTrainer(args=SFTConfig(**settings), **given(single)),
        "dpo": DPOTrainer(args=DPOConfig(**dpo_settings), ref_model=copy.deepcopy(reference), **given(pairs)),
        "orpo": ORPOTrainer(args=ORPOConfig(**orpo_settings), **given(pairs)),
    }


def rows_of_trl(trainer: Any, loss: str) -> list[Example]:
    """What a trainer made of the rows, as our examples: ids, and where the prompt ends."""
    sides = ("chosen", "rejected")
    rows = [trainer.train_dataset[index] for index in range(len(trainer.train_dataset))]
    if loss == "sft":
        return [Example(labelled(row["input_ids"], row["labels"])) for row in rows]
    if loss == "dpo":
        return [Example(*(Tokens.of(row["prompt_ids"], row[f"{side}_ids"]) for side in sides)) for row in rows]
    return [Example(*(labelled(row[f"{side}_input_ids"], row[f"{side}_labels"]) for side in sides)) for row in rows]


def labelled(ids: list[int], labels: list[int]) -> Tokens:
    prompt_tokens = labels.count(-100)
    assert labels == [-100] * prompt_tokens + ids[prompt_tokens:]
    return Tokens.of(ids[:prompt_tokens], ids[prompt_tokens:])


@pytest.mark.parametrize("loss", LOSSES)
def test_trl_reads_the_same_tokens(peers: Peers, loss: str) -> None:
    if peers.name.startswith((*OPENED_OTHERWISE, *WRITES_NO_STOP)):
        pytest.skip("TRL learns another context than the model is sampled with, or no stop token")
    theirs = rows_of_trl(peers.trainers[loss], loss)
    for their, our in zip(theirs, peers.examples[loss], strict=True):
        for read, ours in zip(their.sequences, our.sequences, strict=True):
            prompt, answer = list(read.ids[: read.prompt_tokens]), list(read.ids[read.prompt_tokens :])
            if loss == "orpo" and ours.ids[0] != peers.tokenizer.bos_token_id:
                assert prompt.pop(0) == peers.tokenizer.bos_token_id
            learnt = ours.labelled
            assert (prompt, answer[:learnt]) == (
                list(ours.ids[: ours.prompt_tokens]),
                list(ours.ids[ours.prompt_tokens :]),
            )
            assert answer[learnt - 1] in chat.stop_ids(peers.tokenizer)
            assert not peers.tokenizer.decode(answer[learnt:], skip_special_tokens=True).strip()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_and_gradients_are_trls(peers: Peers, loss: str, precision: str) -> None:
    ours, our_gradients = measured_by_us(peers, loss, precision)
    theirs, their_gradients = measured_by_trl(peers, loss, precision)
    assert our_gradients.keys() == their_gradients.keys()
    if precision == "float32":
        assert ours == pytest.approx(theirs, abs=1e-5)
        for name, gradient in our_gradients.items():
            their = their_gradients[name]
            assert (gradient - their).norm() <= 1e-4 * their.norm(), name
        return
    # bfloat16 keeps 8 bits, so every product and every activation is off by up to 0.4 %, and matrices of other shapes
    # (ours project the answers' positions only) sum in another order. These errors are random: they leave the whole
    # gradient's direction and length, and the loss, which is a mean over hundreds of them.
    assert {gradient.dtype for gradient in (our_gradients | their_gradients).values()} == {torch.bfloat16}
    assert ours == pytest.approx(theirs, rel=1e-2)
    mine, other = as_one(our_gradients), as_one(their_gradients)
    assert torch.nn.functional.cosine_similarity(mine, other, dim=0) > 0.999
    assert mine.norm().item() == pytest.approx(other.norm().item(), rel=1e-2)


def as_one(parts: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([parts[name].double().flatten() for name in sorted(parts)])


def measured_by_us(peers: Peers, loss: str, precision: str) -> tuple[float, dict[str, torch.Tensor]]:
    """(loss, gradients) of one global batch, in micro-batches of 4 and 2."""
    dtype, examples = getattr(torch, precision), peers.examples[loss]
    settings = TrainSettings(
        learning_rate=1e-3,
        max_steps=1,
        global_batch_size=len(examples),
        micro_batch_size=4,
        device="cpu",
        precision=precision,
    )
    job, sums = TrainJob(settings, loss, LOSSES[loss]), None
    if loss == "dpo":
        frozen = copy.deepcopy(peers.reference).to(dtype)
        sums = reference_logprobs(lambda: frozen, "reference", examples, job, peers.folder / "cache")
    run = Run(copy.deepcopy(peers.policy).to(dtype), examples, sums, job)
    measured = run._forward_backward(range(len(examples)))
    return measured["loss"].item(), gradients(run.model)


def measured_by_trl(peers: Peers, loss: str, precision: str) -> tuple[float, dict[str, torch.Tensor]]:
    """(loss, gradients) of the same batch, by TRL's trainer over our token ids."""
    trainer = peers.trainers[loss]
    model = with_weights_of(peers.policy, trainer.model, precision)
    features = {"sft": sft_features, "dpo": dpo_features, "orpo": orpo_features}[loss](peers.examples[loss])
    batch = trainer.data_collator(features)
    if loss == "orpo":
        chosen, rejected, *_ = trainer.concatenated_forward(model, batch)
        value = nll_of_answers(model, batch) - trainer.odds_ratio_loss(chosen, rejected)[0].mean()
    else:
        if loss == "dpo":
            with_weights_of(peers.reference, trainer.ref_model, precision)
        value = trainer.compute_loss(model, batch)
    value.backward()
    return value.item(), gradients(model)


def with_weights_of(model: Any, held: Any, precision: str) -> Any:
    """A trainer's own model, which it has patched, with fresh weights in a format, and without gradients."""
    held.to(getattr(torch, precision)).load_state_dict(model.state_dict())
    held.zero_grad()
    return held


def test_ten_templates_and_more_are_compared() -> None:
    own_words = [name for name in TEXT_TEMPLATES if not name.startswith((*OPENED_OTHERWISE, *WRITES_NO_STOP))]
    assert len({re.match("[a-z]+", name)[0] for name in TEXT_TEMPLATES}) >= 10
    assert len(own_words) >= 10
