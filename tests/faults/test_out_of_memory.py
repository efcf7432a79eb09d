"""Memory that does not suffice: texts and likelihoods go on in smaller batches; a training says what to set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from seft_bench import errors
from seft_bench.chat import user
from seft_bench.checkpoints.batches import Batches
from seft_bench.errors import InputError
from seft_bench.generators.conversations import Sampling
from seft_bench.generators.transformers import TransformersGenerator
from tests.integration.cli import good, seft_bench


@pytest.fixture(params=["GPU", "CPU", "Python"])
def full(request: pytest.FixtureRequest) -> Callable[[], Exception]:
    """The error of a memory that is full, as each of them says it."""
    import torch

    return {
        "GPU": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."),
        "CPU": lambda: RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
        "Python": MemoryError,
    }[request.param]


def test_batches_are_halved_until_they_fit_and_it_is_said_once(
    full: Callable[[], Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    tried: list[int] = []

    def work(batch: Sequence[int]) -> list[int]:
        tried.append(len(batch))
        if len(batch) > 2:
            raise full()
        return [-item for item in batch]

    sizes = Batches(8, "texts of model")
    assert list(sizes.over(range(5), work)) == [(item, -item) for item in range(5)]
    assert list(sizes.over(range(5, 8), work)) == [(item, -item) for item in range(5, 8)]  # what fits is remembered
    assert tried == [5, 2, 2, 1, 2, 1]
    assert capsys.readouterr().err.splitlines() == [
        "texts of model: 5 at a time do not fit into memory; going on with 2, or fewer"
    ]


def test_what_does_not_fit_alone_is_one_message(full: Callable[[], Exception]) -> None:
    def work(batch: Sequence[int]) -> list[int]:
        raise full()

    with pytest.raises(InputError, match="texts of model: not even one at a time"):
        list(Batches(8, "texts of model").over(range(5), work))


def test_other_errors_are_no_matter_of_size() -> None:
    def work(batch: Sequence[int]) -> list[int]:
        raise RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED")

    with pytest.raises(RuntimeError, match="CUBLAS"):
        list(Batches(8, "texts of model").over(range(5), work))


def with_little_room(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, most: int, rows: int) -> None:
    """Let a function refuse more than so many rows, as a GPU does; `rows` says which of its arguments they are."""
    import torch

    whole = getattr(owner, name)

    def little(*arguments: Any, **options: Any) -> Any:
        if len(arguments[rows]) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(*arguments, **options)

    monkeypatch.setattr(owner, name, little)


def test_answers_are_the_same_in_smaller_batches(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [[user("word " * count)] for count in range(1, 8)]
    samplings = [Sampling(str(number), temperature=1.0) for number in range(7)]

    def texts() -> list[str]:
        generator = TransformersGenerator(tiny_model, "tiny", batch_size=7)
        return [done.text for done in generator.complete(asked, samplings, 8, seed=0)]

    whole = texts()
    with_little_room(monkeypatch, TransformersGenerator, "_generate", 2, rows=1)
    assert texts() == whole
    assert capsys.readouterr().err.count("do not fit into memory") == 1


def test_likelihoods_are_the_same_in_smaller_batches(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from training import logprobs

    pairs = [([user("word " * count)], "an answer") for count in range(1, 8)]
    whole = logprobs.score_answers(tiny_model, None, pairs, batch_size=7)
    with_little_room(monkeypatch, logprobs, "sequence_logprobs", 2, rows=1)
    small = logprobs.score_answers(tiny_model, None, pairs, batch_size=7)
    assert [score.sum for score in small] == pytest.approx([score.sum for score in whole], abs=1e-4)


def test_a_training_says_which_settings_its_memory_hangs_on(
    desk: Path, monkeypatch: pytest.MonkeyPatch, full: Callable[[], Exception]
) -> None:
    from training import run

    def too_much(*_: Any, **__: Any) -> None:
        raise full()

    monkeypatch.setattr(run.Run, "take_step", too_much)
    seen = good(seft_bench("train", "method=sft", "settings.start.max_steps=2", "--out", "run"), status=2)
    assert "Traceback" not in seen.err
    for name in ("micro_batch_size", "gradient_checkpointing", "max_length"):
        assert name in seen.err


def test_memory_that_runs_out_anywhere_else_is_one_message(full: Callable[[], Exception]) -> None:
    refused = errors.refusal(full())
    assert refused is not None
    assert refused.exit_status == 6
    assert "out of memory" in refused.message
    assert "batch_size" in refused.message
