"""The stages between trainings by real vLLM, against the same by transformers (`make test-vllm`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from seft_bench import pipeline
from seft_bench.checkpoints import is_adapter
from seft_bench.checkpoints.whole import WholeModels
from seft_bench.files import read_jsonl
from seft_bench.generators.conversations import Sampling
from seft_bench.stages.engines import OwnEngine, VLLMServerEngine
from tests.small_seft import small_seft, write_data

pytestmark = pytest.mark.vllm
CONVERSATIONS: list[Any] = [
    [{"role": "user", "content": f"{index}. Name <|end|> a fish." + " And why?" * index}] for index in range(12)
]
CONVERSATIONS += [
    [*asked, {"role": "assistant", "content": " A pike. "}, {"role": "user", "content": "Please revise."}]
    for asked in CONVERSATIONS[:4]
]


@pytest.fixture(scope="module")
def engine(vllm_server: Any, tmp_path_factory: pytest.TempPathFactory) -> VLLMServerEngine:
    return VLLMServerEngine(vllm_server, WholeModels(tmp_path_factory.mktemp("whole")))


def texts_of(engine: Any, model: Path, temperature: float, conversations: list[Any], seed: int = 0) -> list[Any]:
    samplings = [Sampling(asked[0]["content"] + str(len(asked)), temperature) for asked in conversations]
    return list(engine.generator(model, 8).complete(conversations, samplings, 48, seed))


def test_greedy_texts_equal_transformers_for_each_checkpoint(
    engine: VLLMServerEngine, checkpoints: tuple[Path, Path]
) -> None:
    """Texts, numbers of tokens and ends, through one server whose weights are exchanged."""
    processes = set()
    for model in (*checkpoints, checkpoints[0]):
        found = texts_of(engine, model, 0.0, CONVERSATIONS)
        processes.add(engine.server.pid)
        assert found == texts_of(OwnEngine(), model, 0.0, CONVERSATIONS)
        assert len({completion.text for completion in found}) > 6
    assert len(processes) == 1


def test_likelihoods_equal_score_answers(engine: VLLMServerEngine, checkpoints: tuple[Path, Path]) -> None:
    lists = [[(asked, f"A pike, {index}.") for index, asked in enumerate(CONVERSATIONS)], [(CONVERSATIONS[0], "")]]
    for model in checkpoints:
        for found, expected in zip(engine.score(model, lists), OwnEngine().score(model, lists), strict=True):
            assert [score.tokens for score in found] == [score.tokens for score in expected]
            means = [score.mean for score in expected]
            assert [score.mean for score in found] == pytest.approx(means, abs=1e-3)
            assert max(means) - min(means) > 1e-2 or len(means) == 1


def test_a_sample_depends_on_its_own_key_and_seed(engine: VLLMServerEngine, checkpoints: tuple[Path, Path]) -> None:
    first = texts_of(engine, checkpoints[0], 1.0, CONVERSATIONS)
    assert texts_of(engine, checkpoints[0], 1.0, CONVERSATIONS[::-1]) == first[::-1]
    assert texts_of(engine, checkpoints[0], 1.0, CONVERSATIONS[:3]) == first[:3]
    assert texts_of(engine, checkpoints[0], 1.0, CONVERSATIONS, seed=1) != first


def test_seft_by_vllm_takes_the_same_texts_as_by_transformers(
    vllm_server: Any, checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    """Two rounds over adapters, greedy drafts: labels, drafts and revisions are equal, text by text."""
    vllm_server.stop()  # one server at a time
    data, rows = write_data(tmp_path / "data"), {}
    for engine in ("transformers", "vllm"):
        recipe = small_seft(
            checkpoints[0],
            data,
            drafts={"temperature": 0.0},
            training={"lora": {"rank": 4, "alpha": 8}},
            engine=engine,
            vllm={"max_model_len": 400},
        )
        run = pipeline.train(recipe, tmp_path / engine)
        assert all(map(is_adapter, run.checkpoints))
        folders = {name.rpartition("-")[0]: tmp_path / engine / "stages" / name for name in run.manifest["stages"]}
        rows[engine] = {
            "labels": [row["label"] for row in read_jsonl(folders["labels"] / "scores.jsonl")],
            **{name: [row["samples"] for row in read_jsonl(folders[name] / "drafts.jsonl")] for name in DRAWN},
            "revised": [row["revision"] for row in read_jsonl(folders["revised-2"] / "revised.jsonl")],
        }
        deltas = [row["delta"] for row in read_jsonl(folders["labels"] / "scores.jsonl")]
        assert deltas == pytest.approx(rows.setdefault("deltas", deltas), abs=1e-3)
    assert rows["vllm"] == rows["transformers"]
    assert len(list((tmp_path / "vllm" / "vllm-logs").glob("*.log"))) == 3
    assert not list((tmp_path / "vllm" / "vllm-logs").glob("merged-*"))


DRAWN = ("drafts-1", "drafts-2", "calibration-drafts-2")
