"""Log-probabilities: logits at labelled positions only give what full logits give."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from seft_bench.chat import answer_ids, load_tokenizer, user
from training.checkpoint import load_model
from training.data import Example, Tokens, collate
from training.logprobs import answer_logprobs, score_answers, score_sequences
from training.loop import TrainJob, TrainSettings
from training.reference import reference_logprobs

SEQUENCES = [Tokens.of([5, 9, 30], [7, 80, 3]), Tokens.of([5], [8, 9, 10, 44, 2, 1]), Tokens.of([], [60, 61, 62, 1])]


def summed_by_hand(model: Any, sequence: Tokens) -> float:
    """log p token by token from the full logits of the sequence alone, unpadded."""
    ids = torch.tensor([list(sequence.ids)])
    logprobs = model(input_ids=ids).logits[0].double().log_softmax(-1)
    return sum(
        logprobs[position - 1, ids[0, position]].item()
        for position in range(max(1, sequence.prompt_tokens), len(sequence.ids))
    )


def tiny_config(kind: str) -> Any:
    import transformers

    sizes = {
        "vocab_size": 320,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    if kind == "gemma2":
        return transformers.Gemma2Config(**sizes, head_dim=8, final_logit_softcapping=3.0, initializer_range=0.3)
    if kind == "granite":
        return transformers.GraniteConfig(**sizes, logits_scaling=4.0, initializer_range=0.3)
    if kind == "gpt2":
        return transformers.GPT2Config(
            vocab_size=320, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.3
        )
    return transformers.LlamaConfig(**sizes, initializer_range=0.3)


@pytest.mark.parametrize("kind", ["llama", "gemma2", "granite", "gpt2"])
def test_logits_at_labelled_positions_equal_full_logits(kind: str) -> None:
    """Also for models that cap (gemma2) or scale (granite) their logits after the projection."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(kind)).eval()
    sums, tokens = answer_logprobs(model, collate(SEQUENCES))
    assert tokens.tolist() == [3, 6, 3]
    assert sums.tolist() == pytest.approx([summed_by_hand(model, sequence) for sequence in SEQUENCES], abs=1e-4)


def test_the_projection_really_sees_labelled_positions_only(tiny_model: Path) -> None:
    model = load_model(tiny_model)
    seen: list[tuple[int, ...]] = []
    handle = model.get_output_embeddings().register_forward_hook(
        lambda _module, inputs, _output: seen.append(tuple(inputs[0].shape))
    )
    answer_logprobs(model, collate(SEQUENCES))
    handle.remove()
    assert seen == [(1, 12, 32)]  # 3 + 6 + 3 labelled tokens of 3 x 7 positions
    assert model(input_ids=torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 320)  # and the hook is gone afterwards


def test_gradients_equal_those_of_full_logits(tiny_model: Path) -> None:
    def gradients(full: bool) -> list[torch.Tensor]:
        model, batch = load_model(tiny_model), collate(SEQUENCES)
        if full:
            mask = (
                torch.arange(batch.ids.shape[1])[None]
                < torch.tensor([len(sequence.ids) for sequence in SEQUENCES])[:, None]
            )
            labels = batch.ids.masked_fill(~batch.labelled, -100)
            (model(input_ids=batch.ids, attention_mask=mask, labels=labels).loss * 12).backward()
        else:
            (-answer_logprobs(model, batch)[0].sum()).backward()
        return [parameter.grad for parameter in model.parameters()]

    for ours, full in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(ours, full, rtol=1e-4, atol=1e-5)


def test_scores_come_back_in_the_order_given_whatever_the_batch_size(tiny_model: Path) -> None:
    pairs = [([user(f"What is {number} plus two?")], "It is " + "so " * number + "fine.") for number in (9, 1, 5, 3, 0)]
    alone = [score_answers(tiny_model, None, [pair])[0] for pair in pairs]
    together = score_answers(tiny_model, load_tokenizer(tiny_model), pairs, batch_size=2)
    assert [scored.tokens for scored in together] == [scored.tokens for scored in alone]
    assert [scored.sum for scored in together] == pytest.approx([scored.sum for scored in alone], rel=1e-5)
    assert together[0].mean == pytest.approx(together[0].sum / together[0].tokens)


def test_an_answers_score_is_its_log_likelihood_stop_token_included(tiny_model: Path) -> None:
    tokenizer, model = load_tokenizer(tiny_model), load_model(tiny_model).eval()
    before, after = answer_ids(tokenizer, [user("Name a fish.")], "A pike.")
    (scored,) = score_answers(tiny_model, tokenizer, [([user("Name a fish.")], "A pike.")])
    assert scored.tokens == len(after)
    assert after[-1] == tokenizer.eos_token_id
    assert scored.sum == pytest.approx(summed_by_hand(model, Tokens.of(before, after)), abs=1e-4)


def test_scoring_leaves_the_model_as_it_was(tiny_model: Path) -> None:
    model = load_model(tiny_model).train()
    score_sequences(model, SEQUENCES)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_reference_logprobs_are_computed_once_and_again_for_other_data(tiny_model: Path, tmp_path: Path) -> None:
    loads: list[str] = []

    def load() -> Any:
        loads.append("loaded")
        return load_model(tiny_model)

    job = TrainJob(TrainSettings(learning_rate=1e-3, epochs=1, micro_batch_size=2), "dpo")
    examples = [Example(SEQUENCES[0], SEQUENCES[1]), Example(SEQUENCES[1], SEQUENCES[2])]
    first = reference_logprobs(load, "fingerprint", examples, job, tmp_path)
    again = reference_logprobs(load, "fingerprint", examples, job, tmp_path)
    assert loads == ["loaded"]
    assert torch.equal(first, again)
    flat = [
        scored.sum
        for scored in score_sequences(load_model(tiny_model), [*examples[0].sequences, *examples[1].sequences])
    ]
    assert first.flatten().tolist() == pytest.approx(flat, rel=1e-5)
    reference_logprobs(load, "fingerprint", examples[:1], job, tmp_path)
    reference_logprobs(load, "another model", examples, job, tmp_path)
    assert len(loads) == 3


def test_a_model_is_loaded_from_safetensors_only(tiny_model: Path, tmp_path: Path) -> None:
    from seft_bench.errors import InputError

    with pytest.raises(InputError, match="model folder not found"):
        load_model(tmp_path / "absent")
    with pytest.raises(InputError, match=r"without config\.json"):
        load_model(tmp_path)
    (tmp_path / "config.json").write_text((tiny_model / "config.json").read_text())
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(InputError, match=r"only pytorch_model\.bin, which could run code"):
        load_model(tmp_path)
    (tmp_path / "pytorch_model.bin").unlink()
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no-such-model"}))
    (tmp_path / "model.safetensors").write_bytes((tiny_model / "model.safetensors").read_bytes())
    with pytest.raises(InputError, match="no causal language model can be loaded"):
        load_model(tmp_path)
