"""Stages: what names their folders, and sampling that goes on where it was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seft_bench.errors import InputError
from seft_bench.files import read_jsonl, write_jsonl
from seft_bench.records import Stage
from seft_bench.stages import Workshop, run_stage, sample
from tests.tiny_model import make_tiny_model

SETTINGS = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 6, "batch_size": 4, "samples": 2}
STAGE = Stage("drafts", "sample", {"model": "base", "prompts": "data:prompts"}, SETTINGS)


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    write_jsonl(
        tmp_path / "data" / "prompts.jsonl",
        [{"prompt": [{"role": "user", "content": f"What is {index}?"}]} for index in range(7)],
    )
    return Workshop(tmp_path / "stages", make_tiny_model(tmp_path / "model"), tmp_path / "data", seed=0)


def test_a_killed_sampling_goes_on_to_the_same_drafts(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "PROMPTS_AT_ONCE", 3)
    whole = read_jsonl(run_stage(STAGE, {}, shop).folder / "drafts.jsonl")
    killed = Workshop(
        tmp_path / "killed", shop.base, shop.data, 0, progress=lambda what, done, total: pytest.fail("killed")
    )
    with pytest.raises(pytest.fail.Exception):
        run_stage(STAGE, {}, killed)
    (folder,) = (tmp_path / "killed").glob("drafts-*")
    assert len(read_jsonl(folder / "sampled.jsonl")) == 3
    seen: list[int] = []
    again = Workshop(tmp_path / "killed", shop.base, shop.data, 0, progress=lambda what, done, total: seen.append(done))
    assert read_jsonl(run_stage(STAGE, {}, again).folder / "drafts.jsonl") == whole
    assert seen == [6, 7]  # the first three were not drawn again
    assert [len(row["samples"]) for row in whole] == [2] * 7


def test_everything_that_decides_the_outcome_is_in_the_folders_name(shop: Workshop, tmp_path: Path) -> None:
    def folder(stage: Stage = STAGE, **changes: Any) -> str:
        return run_stage(
            stage,
            {},
            Workshop(**{**{name: getattr(shop, name) for name in ("folder", "base", "data", "seed")}, **changes}),
        ).folder.name

    first = folder()
    assert folder() == first
    assert folder(seed=1) != first
    assert folder(Stage("drafts", "sample", STAGE.inputs, {**SETTINGS, "temperature": 0.5})) != first
    assert folder(base=make_tiny_model(tmp_path / "other", seed=1)) != first
    write_jsonl(tmp_path / "more" / "prompts.jsonl", [{"prompt": [{"role": "user", "content": "q"}]}])
    assert folder(data=tmp_path / "more") != first


def test_a_round_without_prompts_is_refused(shop: Workshop) -> None:
    with pytest.raises(InputError, match="round 9 of 9 has no prompts left: there are 7"):
        run_stage(Stage("drafts", "sample", STAGE.inputs, {**SETTINGS, "part": 8, "parts": 9}), {}, shop)


def test_a_missing_data_set_names_what_is_there(shop: Workshop) -> None:
    with pytest.raises(InputError, match=r"data set 'sft' not found.*prompts\.jsonl"):
        run_stage(Stage("start", "train", {"model": "base", "data": "data:sft"}, {}), {}, shop)
