"""Weights that were cut off: one message that names the file, before anything runs; never a traceback."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from seft_bench.errors import InputError
from seft_bench.files import check_safetensors, write_jsonl
from seft_bench.generators.transformers import load_causal_lm
from seft_bench.records import Answer, to_row
from seft_bench.suites import load_suite
from tests.integration.cli import REPOSITORY, Seen, seft_bench


@pytest.fixture
def broken(desk: Path, tiny_model: Path) -> Path:
    """A copy whose weights end in the middle."""
    folder = Path(shutil.copytree(tiny_model, desk / "broken"))
    weights = folder / "model.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    return folder


def refused(seen: Seen) -> None:
    assert seen.status == 2, seen.err
    assert "model.safetensors is broken" in seen.err
    assert "download or save it again" in " ".join(seen.err.split())
    assert "Traceback" not in seen.err


def test_a_checkpoint_is_refused_before_anything_is_answered(broken: Path) -> None:
    refused(seft_bench("eval", str(broken), "--suite", "tiny-mtbench"))
    assert not (broken.parent / "runs").exists()


@pytest.mark.parametrize("kind", ["transformers", "reward-model"])
def test_a_judge_is_refused_before_anything_is_judged(broken: Path, kind: str) -> None:
    judge: dict[str, Any] = {"name": "mine", "kind": kind, "model": str(broken)}
    Path("judge.yaml").write_text(yaml.safe_dump(judge))
    answers = [
        Answer("tiny-alpacaeval", question.id, "m", ("an answer",))
        for question in load_suite("tiny-alpacaeval").questions()
    ]
    write_jsonl(Path("answers.jsonl"), map(to_row, answers))
    refused(seft_bench("eval", "answers.jsonl", "--suite", "tiny-alpacaeval", "--judge", "judge.yaml"))


def test_a_base_is_refused_too(broken: Path) -> None:
    refused(seft_bench("train", "tiny-seft", f"base={broken}"))


def test_every_cut_is_found_and_whole_files_are_not_refused(broken: Path, tiny_model: Path) -> None:
    check_safetensors(tiny_model)
    check_safetensors(REPOSITORY / "seft_bench" / "tinyworld" / "base")
    content = (tiny_model / "model.safetensors").read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    cuts = [content[:end] for end in (0, 7, 8, header - 1, header, len(content) - 1)]
    for text in (
        *cuts,
        content + b"x",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        b"\x02" + b"\0" * 7 + b"[]",
    ):
        (broken / "model.safetensors").write_bytes(text)
        with pytest.raises(InputError, match=r"model\.safetensors is broken"):
            load_causal_lm(broken)
