"""AdamW over split weights: what float32 keeps is kept, at learning rates that bfloat16 cannot show."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from training.bfloat16 import SplitAdamW, join_halves, round_dithered, split_halves
from training.optimizers import clip_gradients


def test_halves_are_the_nearest_bfloat16_and_the_rest_bit_for_bit() -> None:
    torch.manual_seed(0)
    full = torch.cat([torch.randn(2000), torch.randn(2000) * 1e-20, torch.tensor([0.0, -0.0, 1.0, 3.0e38, 1.00390625])])
    high, low = torch.empty_like(full, dtype=torch.bfloat16), torch.empty_like(full, dtype=torch.int16)
    split_halves(full, high, low)
    assert torch.equal(join_halves(high, low).view(torch.int32), full.view(torch.int32))
    assert (high.double() - full.double()).abs().le((full.bfloat16().double() - full.double()).abs()).all()


def test_dithered_rounding_is_right_on_average_and_off_by_one_place_at_most() -> None:
    """1 + k/512 lies between the bfloat16 numbers 1 and 1 + 1/128: over 4 steps a quarter of them goes up for k = 1."""
    for k in range(5):
        rounded = [round_dithered(torch.tensor([1 + k / 512]), step).item() for step in range(1, 5)]
        assert set(rounded) <= {1.0, 1 + 1 / 128}
        assert sum(map(Fraction, rounded)) / 4 == Fraction(1 + k / 512)


def one_parameter(dtype: torch.dtype, shape: tuple[int, ...] = (300,)) -> torch.nn.Parameter:
    torch.manual_seed(0)
    return torch.nn.Parameter(torch.randn(shape).bfloat16().to(dtype))


def train(parameter: torch.nn.Parameter, optimizer: torch.optim.Optimizer, steps: int) -> None:
    torch.manual_seed(1)
    for _ in range(steps):
        parameter.grad = (1 + torch.randn(parameter.shape)).bfloat16().to(parameter.dtype)
        optimizer.step()


def test_small_steps_add_up_as_in_float32() -> None:
    """300 steps of 1e-5 on weights around 1, where bfloat16's neighbours are 8e-3 apart: plain AdamW goes nowhere."""
    kept, plain, exact = (one_parameter(dtype) for dtype in (torch.bfloat16, torch.bfloat16, torch.float32))
    start, group = exact.detach().clone(), {"lr": 1e-5, "betas": (0.9, 0.999), "weight_decay": 0.1}
    optimizer = SplitAdamW([{"params": [kept], "weight_decay": 0.1}], 1e-5, (0.9, 0.999))
    train(kept, optimizer, 300)
    train(plain, torch.optim.AdamW([plain], **group), 300)
    train(exact, torch.optim.AdamW([exact], **group), 300)
    low = optimizer.state[kept]["low"].view(torch.int16)
    moved, expected = join_halves(kept.detach(), low) - start, exact.detach() - start
    assert moved.mean().item() == pytest.approx(expected.mean().item(), rel=0.01)
    assert (moved - expected).abs().max() < 0.05 * expected.abs().mean()
    large = exact.detach().abs() > 0.5
    assert torch.equal(plain.detach().float()[large], start[large])


def test_a_parameter_is_updated_whole_however_it_is_sliced(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for elements in (1 << 18, 7):
        monkeypatch.setattr("training.bfloat16.SLICE_ELEMENTS", {"cpu": elements})
        parameter = one_parameter(torch.bfloat16, (10, 30))
        train(parameter, SplitAdamW([{"params": [parameter]}], 1e-2, (0.9, 0.999)), 5)
        results.append(parameter.detach())
    assert torch.equal(*results)


def test_float32_parameters_are_updated_as_torch_does() -> None:
    ours, theirs = one_parameter(torch.float32), one_parameter(torch.float32)
    train(ours, SplitAdamW([{"params": [ours], "weight_decay": 0.1}], 1e-3, (0.9, 0.95)), 20)
    train(theirs, torch.optim.AdamW([theirs], lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1), 20)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_norm_of_bfloat16_gradients_is_taken_in_float32() -> None:
    parameters = {name: one_parameter(torch.bfloat16) for name in ("a", "b")}
    for parameter in parameters.values():
        parameter.grad = torch.full_like(parameter, 1.0078125)
    assert clip_gradients(parameters, 1.0).item() == pytest.approx(1.0078125 * 600**0.5, rel=1e-6)
    norm = sum(parameter.grad.double().square().sum() for parameter in parameters.values()) ** 0.5
    assert norm.item() == pytest.approx(1.0, rel=5e-3)
