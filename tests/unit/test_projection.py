"""The output projection by chunks: what full logits give, and never as many logits as that."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.tensor_sizes import LargestTensor
from tests.tiny_architectures import ARCHITECTURES, VOCABULARY, tiny_config
from training import projection
from training.data import Tokens, collate
from training.logprobs import answer_logprobs
from training.precision import silence_dropout

SEQUENCES = [Tokens.of([5, 9, 30], [7, 80, 3]), Tokens.of([5], [8, 9, 10, 44, 2, 1]), Tokens.of([], [60, 61, 62, 1])]
LABELLED = 12


def tiny(architecture: str, dtype: torch.dtype = torch.float32) -> Any:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(architecture), dtype=dtype)
    silence_dropout(model)
    return model.train()


def sums_and_gradients(model: Any, rows: int, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, dict[str, Any]]:
    """Log-probabilities, and gradients of a loss that weighs the sequences differently."""
    monkeypatch.setattr(projection, "MOST_LOGITS", {"cpu": rows * VOCABULARY})
    model.zero_grad()
    sums, _ = answer_logprobs(model, collate(SEQUENCES))
    (sums * torch.tensor([1.0, -2.0, 0.5])).sum().backward()
    return sums.detach(), {name: weight.grad.clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_chunks_give_the_log_probabilities_and_gradients_of_all_logits_at_once(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tied or not, with a bias (gptj), capped (gemma2, gemma3) or scaled (granite) logits; the last chunk is short."""
    model = tiny(architecture)
    sums, gradients = sums_and_gradients(model, LABELLED, monkeypatch)
    in_chunks, gradients_in_chunks = sums_and_gradients(model, 5, monkeypatch)
    torch.testing.assert_close(in_chunks, sums, rtol=1e-5, atol=1e-5)
    assert gradients_in_chunks.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradients_in_chunks[name], gradient, rtol=1e-4, atol=1e-4)


def test_chunks_see_a_few_rows_each_and_the_decoder_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, seen = tiny("llama"), []
    model.lm_head.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].shape[1]))
    model.model.layers[0].register_forward_pre_hook(lambda *_: seen.append("decoder"))
    sums_and_gradients(model, 5, monkeypatch)
    assert seen == ["decoder", 0, 5, 5, 2, 5, 5, 2]  # no logits at first, then forward and backward by chunks
    assert model(input_ids=torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, VOCABULARY)  # and all is as it was


def test_autocast_holds_in_the_recomputed_chunks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sums, gradients = sums_and_gradients(model, LABELLED, monkeypatch)
    monkeypatch.setattr(projection, "MOST_LOGITS", {"cpu": 5 * VOCABULARY})
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        in_chunks, _ = answer_logprobs(model, collate(SEQUENCES))
    (in_chunks * torch.tensor([1.0, -2.0, 0.5])).sum().backward()  # outside, as the loop does
    torch.testing.assert_close(in_chunks.detach(), sums, rtol=1e-3, atol=1e-3)
    for name, weight in model.named_parameters():
        assert weight.grad.dtype == torch.float32
        torch.testing.assert_close(weight.grad, gradients[name], rtol=0.05, atol=0.02)


@pytest.mark.parametrize("kind", ["SFT", "DPO"])
def test_logits_of_a_large_vocabulary_never_exist_together(kind: str) -> None:
    """300 labelled tokens x 150,000 ids would be 45 million numbers; nothing larger than one chunk ever exists."""
    from transformers import LlamaConfig, LlamaForCausalLM

    vocabulary, hidden = 150_000, 8
    sizes = {"hidden_size": hidden, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, tie_word_embeddings=True, **sizes)).bfloat16()
    sequences = [Tokens.of([5], [7, 100_000, 3] * 50)] * 2
    batch, most = collate(sequences), projection.MOST_LOGITS["cpu"]
    largest = LargestTensor()
    with largest:
        sums, tokens = answer_logprobs(model, batch)
        loss = -sums.sum() if kind == "SFT" else -torch.nn.functional.logsigmoid(0.01 * (sums[0] - 1.1 * sums[1]))
        loss.backward()
    assert tokens.sum() * vocabulary > 2.5 * most
    assert largest.elements <= most
    assert model.lm_head.weight.grad.abs().sum() > 0
