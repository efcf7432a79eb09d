"""Padding-free batches: one row, the same log-probabilities and gradients, and a refusal where attention cannot."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from seft_bench import pipeline
from seft_bench.config import RecipeConfig
from seft_bench.errors import InputError
from seft_bench.files import read_log, write_jsonl
from tests.tensor_sizes import LargestTensor
from tests.tiny_architectures import ARCHITECTURES, make_tiny_architecture, tiny_config
from tests.tiny_model import make_tiny_model
from training import projection
from training.data import Example, Tokens
from training.logprobs import example_logprobs
from training.loop import TrainJob, TrainSettings, train
from training.loss_table import LOSSES
from training.losses import Totals, logprobs_of
from training.packing import check_apart, check_stateless, pack
from training.precision import prepare_model, silence_dropout

CPU = torch.device("cpu")
CANNOT = {"falcon", "opt"}
"""Falcon's attention looks at no positions, and OPT's mask at none."""
CAN = sorted(set(ARCHITECTURES) - CANNOT)


def settings(**given: Any) -> TrainSettings:
    return TrainSettings(**{"learning_rate": 1e-3, "epochs": 1, "device": "cpu", "padding_free": True, **given})


def tiny(architecture: str, **changes: Any) -> Any:
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = tiny_config(architecture)
    config.update(changes)
    model = AutoModelForCausalLM.from_config(config)
    silence_dropout(model)
    return model.train()


def ids(first: int, count: int) -> list[int]:
    return [(first + 37 * number) % 320 for number in range(count)]


PAIRS = [
    Example(Tokens.of(ids(3, 9), ids(50, 6)), Tokens.of(ids(3, 9), ids(7, 25))),
    Example(Tokens.of(ids(11, 4), ids(8, 3)), Tokens.of(ids(11, 4), ids(90, 1))),
    Example(Tokens.of_spans(ids(21, 30), [(5, 9), (20, 30)]), Tokens.of([], ids(13, 8))),
]
REFERENCE = torch.tensor([[-30.0, -80.0], [-9.0, -4.0], [-50.0, -33.0]])


def test_a_row_by_hand() -> None:
    """Positions restart; the first token of a sequence is no target, not of the one before it either."""
    row = pack([Tokens.of([5], [6, 7]), Tokens.of([], [8, 9]), Tokens.of_spans([1, 2, 3, 4], [(1, 2), (3, 4)])])
    assert row.ids.tolist() == [[5, 6, 8, 1, 2, 3]]
    assert row.positions.tolist() == [[0, 1, 0, 0, 1, 2]]
    assert row.predicting.tolist() == [[True, True, True, True, False, True]]
    assert row.targets.tolist() == [6, 7, 9, 2, 4]
    assert (row.bounds.tolist(), row.longest, row.labelled) == ([0, 2, 3, 6], 3, [2, 1, 2])


def loss_and_gradients(model: Any, loss: str, padding_free: bool) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    entry = LOSSES[loss]
    examples = PAIRS if entry.rows == "pairs" else [Example(pair.chosen) for pair in PAIRS]
    sums, tokens = example_logprobs(model, examples, CPU, padding_free, entry.needs_shared)
    reference = torch.cat([REFERENCE, REFERENCE / 2], dim=1).unbind(1)
    read = logprobs_of(sums.split(3), tokens.split(3), reference if entry.needs_reference else [], None)
    found = entry.function(read, Totals(3, int(tokens[:3].sum()))).loss
    found.backward()
    return found.item(), {name: weight.grad.clone() for name, weight in model.named_parameters()}


def assert_same(ours: tuple[float, dict[str, torch.Tensor]], theirs: tuple[float, dict[str, torch.Tensor]]) -> None:
    """Equal to 1e-5 of the largest gradient there is."""
    assert ours[0] == pytest.approx(theirs[0], rel=1e-5, abs=1e-5)
    largest = max(gradient.abs().max().item() for gradient in theirs[1].values())
    for name, gradient in theirs[1].items():
        torch.testing.assert_close(ours[1][name], gradient, rtol=1e-5, atol=1e-5 * max(1.0, largest), msg=name)


@pytest.mark.parametrize("architecture", CAN)
@pytest.mark.parametrize("loss", ["sft", "dpo", "ld-dpo", "orpo"])
def test_loss_and_gradient_are_those_of_padded_batches(loss: str, architecture: str) -> None:
    model = tiny(architecture)
    assert_same(loss_and_gradients(model, loss, True), loss_and_gradients(model, loss, False))


def test_logits_by_chunks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    padded = loss_and_gradients(model, "dpo", False)
    monkeypatch.setattr(projection, "MOST_LOGITS", {"cpu": 5 * 320})
    assert_same(loss_and_gradients(model, "dpo", True), padded)


@pytest.mark.parametrize("architecture", CAN)
def test_models_that_keep_sequences_apart_pass(architecture: str) -> None:
    model = tiny(architecture)
    check_apart(model, settings())
    assert model.training


@pytest.mark.parametrize("architecture", sorted(CANNOT))
def test_models_that_do_not_are_refused(architecture: str) -> None:
    with pytest.raises(InputError, match=r"does not keep the sequences of a row apart: .* nats a token off"):
        check_apart(tiny(architecture), settings())


def test_a_model_with_a_state_is_refused_by_its_configuration() -> None:
    from transformers import AutoModelForCausalLM, MambaConfig

    config = MambaConfig(vocab_size=320, hidden_size=32, num_hidden_layers=1, state_size=4)
    with pytest.raises(InputError, match=r"MambaForCausalLM does not keep .* a state from token to token.*false`"):
        check_stateless(config)
    with pytest.raises(InputError, match="a state from token to token"):
        check_apart(AutoModelForCausalLM.from_config(config), settings())
    check_stateless(tiny_config("llama"))


def test_one_whose_positions_are_not_looked_at_is_seen_however_small_its_weights_are() -> None:
    """Of a model that has learnt nothing, a leak moves log-probabilities by little."""
    model = tiny("opt", init_std=0.02)
    with pytest.raises(InputError, match="OPTForCausalLM does not keep"):
        check_apart(model, settings())


@pytest.mark.parametrize("precision", ["mixed", "bfloat16"])
def test_rounding_is_not_taken_for_a_leak(precision: str) -> None:
    model = tiny("llama")
    check_apart(model.bfloat16() if precision == "bfloat16" else model, settings(precision=precision))
    leaky = tiny("falcon")
    with pytest.raises(InputError, match="FalconForCausalLM does not keep"):
        check_apart(leaky.bfloat16() if precision == "bfloat16" else leaky, settings(precision=precision))


# Kernels of GPUs


class Flash:
    """flash-attn's function for packed sequences, written in plain torch; what it is told is kept."""

    def __init__(self) -> None:
        self.bounds: list[list[int]] = []
        self.longest: list[int] = []

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        cu_seqlens_q: torch.Tensor,
        cu_seqlens_k: torch.Tensor,
        max_seqlen_q: int,
        max_seqlen_k: int,
        dropout_p: float = 0.0,
        softmax_scale: float | None = None,
        causal: bool = False,
    ) -> torch.Tensor:
        assert (causal, dropout_p, cu_seqlens_q.dtype) == (True, 0, torch.int32)
        assert (cu_seqlens_q.tolist(), max_seqlen_q) == (cu_seqlens_k.tolist(), max_seqlen_k)
        self.bounds.append(cu_seqlens_q.tolist())
        self.longest.append(max_seqlen_q)
        lengths = cu_seqlens_q.diff().tolist()
        parts = zip(*(each.transpose(0, 1).split(lengths, dim=1) for each in (q, k, v)), strict=True)
        attend = partial(scaled_dot_product_attention, is_causal=True, scale=softmax_scale, enable_gqa=True)
        return torch.cat([attend(*part) for part in parts], dim=1).transpose(0, 1)


@pytest.fixture
def flash(monkeypatch: pytest.MonkeyPatch) -> Flash:
    """Lets transformers find flash attention, which no CPU has."""
    from transformers import PreTrainedModel, modeling_flash_attention_utils

    kernel = Flash()
    found = (kernel, kernel, None, None, None)
    monkeypatch.setattr(PreTrainedModel, "_flash_attn_can_dispatch", lambda *_, **__: True)
    monkeypatch.setattr(modeling_flash_attention_utils, "_lazy_imports", lambda *_, **__: found)
    monkeypatch.setattr(modeling_flash_attention_utils, "_loaded_implementation", None)
    return kernel


def test_flash_attention_is_told_where_sequences_begin(flash: Flash) -> None:
    model = tiny("llama")
    padded = loss_and_gradients(model, "dpo", False)
    model.set_attn_implementation("flash_attention_2")
    assert_same(loss_and_gradients(model, "dpo", True), padded)
    assert flash.bounds == [[0, 14, 20, 49, 82, 86, 93]] * 2  # chosen, then rejected ones, each without its last token
    assert flash.longest == [33] * 2
    check_apart(model, settings())


def test_under_flash_no_mask_of_the_rows_length_squared_exists(flash: Flash) -> None:
    """1,200 positions in one row; with a mask 1.4 million numbers, without none has more than a row's layer inputs."""
    examples = [Example(Tokens.of(ids(number, 20), ids(7 * number, 21))) for number in range(30)]
    largest = {}
    for attention in ("sdpa", "flash_attention_2"):
        model = tiny("llama")
        model.set_attn_implementation(attention)
        with LargestTensor() as seen:
            example_logprobs(model, examples, CPU, padding_free=True)[0].sum().backward()
        largest[attention] = seen.elements
    assert largest["sdpa"] >= 1200**2
    assert largest["flash_attention_2"] <= 30 * 21 * 320  # the logits of all learnt tokens


@pytest.mark.slow
def test_flex_attention_keeps_sequences_apart() -> None:
    """Its kernel is compiled, which needs a C++ compiler on the CPU; gradients it has on GPUs alone."""
    model = tiny("llama").eval()
    with torch.no_grad():
        padded, _ = example_logprobs(model, PAIRS, CPU)
        model.set_attn_implementation("flex_attention")
        try:
            packed, _ = example_logprobs(model, PAIRS, CPU, padding_free=True)
        except torch._inductor.exc.InductorError as error:
            pytest.skip(f"flex attention cannot be compiled here: {str(error).splitlines()[0]}")
    torch.testing.assert_close(packed, padded, rtol=1e-5, atol=1e-5)


def test_flex_attention_cannot_train_on_the_cpu() -> None:
    with pytest.raises(InputError, match="flex_attention has no gradients on the CPU"):
        prepare_model(tiny("llama"), settings(attention="flex_attention"))


# Whole runs


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [
        {"prompt": f"What is {n}?" + " Say" * (n % 5), "chosen": f"It is {n}.", "rejected": "No" + " no" * n}
        for n in range(12)
    ]
    write_jsonl(path, [{**row, "answer": row["chosen"]} for row in rows])
    return path


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "LoRA and gradient checkpointing": {"lora": {"rank": 4}, "gradient_checkpointing": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("loss", ["sft", "dpo"])
def test_a_run_takes_the_course_of_a_padded_one(
    loss: str, variant: str, tiny_model: Path, pairs: Path, tmp_path: Path
) -> None:
    given = {"epochs": None, "max_steps": 3, "global_batch_size": 8, "micro_batch_size": 4, "report_to": []}
    given |= {"validation": {"rows": 3, "every_steps": 2}, **VARIANTS[variant]}
    for padding_free in (False, True):
        job = TrainJob(settings(**given, padding_free=padding_free), loss)
        train(tiny_model, pairs, tmp_path / str(padding_free), job)
    for log in ("train.jsonl", "validation.jsonl"):
        padded, packed = (read_log(tmp_path / name / log) for name in ("False", "True"))
        assert len(packed) == len(padded) > 1
        for ours, theirs in zip(packed, padded, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4, abs=2e-5), log


@pytest.mark.parametrize("precision", ["float32", "mixed", "bfloat16"])
def test_dpo_starts_at_log_2(precision: str, tiny_model: Path, pairs: Path, tmp_path: Path) -> None:
    given = {"epochs": None, "max_steps": 1, "global_batch_size": 8, "micro_batch_size": 4, "report_to": []}
    train(tiny_model, pairs, tmp_path / "run", TrainJob(settings(**given, precision=precision), "dpo"))
    [row] = read_log(tmp_path / "run" / "train.jsonl")
    assert row["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert row["reward_margin"] == pytest.approx(0, abs=1e-6)


def test_a_model_that_cannot_is_refused_before_anything_is_trained(pairs: Path, tmp_path: Path) -> None:
    opt = make_tiny_architecture(tmp_path / "opt", "opt")
    with pytest.raises(InputError, match="OPTForCausalLM does not keep"):
        train(opt, pairs, tmp_path / "run", TrainJob(settings(report_to=[]), "dpo"))
    assert not (tmp_path / "run" / "reference").exists()
    assert not (tmp_path / "run" / "train.jsonl").exists()


def test_a_recurrent_base_is_refused_before_the_first_stage_and_by_the_dry_run(pairs: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, MambaConfig

    base = make_tiny_model(tmp_path / "mamba", with_weights=False)
    config = MambaConfig(vocab_size=320, hidden_size=32, num_hidden_layers=1, state_size=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(base)
    training = {"padding_free": True, "device": "cpu", "report_to": [], "max_steps": 1, "epochs": None}
    data = {"preferences": str(pairs)}
    asked = RecipeConfig(
        name="run", method="dpo", base=str(base), data=data, settings={"init": "base", "training": training}
    )
    with pytest.raises(InputError, match="MambaForCausalLM does not keep"):
        pipeline.dry_run(asked, probe=False)
    with pytest.raises(InputError, match="MambaForCausalLM does not keep"):
        pipeline.train(asked, tmp_path / "run")
    assert not list(tmp_path.rglob("train.jsonl"))


def test_it_is_part_of_a_runs_identity_where_it_is_on() -> None:
    assert settings().identity_row()["padding_free"] is True
    assert "padding_free" not in settings(padding_free=False).identity_row()
