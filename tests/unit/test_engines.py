"""The machine's memory, held by one at a time: the order of work, and that everything is closed whatever happens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from seft_bench.errors import InputError
from seft_bench.evaluation.engines import InProcessEngine, JudgedSuite, closed_at_the_end, in_turn, open_engine
from seft_bench.judges.base import BaseJudge
from seft_bench.pipeline import STEPS
from seft_bench.subjects import Subject

SUITES = ["s1", "s2", "s3"]


class Recorder:
    """Something that is open from its first use to `close`."""

    is_managed = True

    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def close(self) -> None:
        self.log.append(f"close {self.name}")

    def answers_for(self, subject: Any) -> Any:
        return subject


def walked(judges: Sequence[Any], engine: Any, log: list[str], steps: Sequence[str] = STEPS) -> list[str]:
    suites: list[Any] = [JudgedSuite(*pair) for pair in zip(SUITES, judges, strict=True)]
    for subject, suite, _, these in in_turn(["a", "b"], suites, steps, engine):
        log.append(f"{'+'.join(these)} {subject} {suite}")
    return log


def test_without_servers_each_subject_is_finished_in_turn() -> None:
    judges = [BaseJudge()] * 3
    assert walked(judges, None, [])[:4] == [
        "answer+judge+score a s1",
        "answer+judge+score a s2",
        "answer+judge+score a s3",
        "answer+judge+score b s1",
    ]


def test_the_engine_is_closed_before_anything_is_judged() -> None:
    log: list[str] = []
    walked([BaseJudge()] * 3, Recorder("engine", log), log)
    assert log.index("close engine") == 6
    assert all(line.startswith("answer ") for line in log[:6])
    assert all(line.startswith("judge+score ") for line in log[7:])
    assert len(log) == 13


def test_a_judges_server_serves_all_its_suites_and_ends_before_the_next_ones_starts() -> None:
    log: list[str] = []
    first, second = Recorder("first", log), Recorder("second", log)
    walked([first, first, second], None, log)
    assert log[:6] == [f"answer {subject} {suite}" for subject in "ab" for suite in SUITES]
    assert log[6:] == [
        *(f"judge+score {subject} {suite}" for suite in SUITES[:2] for subject in "ab"),
        "close first",
        *("judge+score a s3", "judge+score b s3"),
        "close second",
    ]


def test_only_the_steps_asked_for_are_walked() -> None:
    log: list[str] = []
    engine = Recorder("engine", log)
    assert {line.split()[0] for line in walked([BaseJudge()] * 3, engine, [], ["answer"])} == {"answer"}
    assert {line.split()[0] for line in walked([BaseJudge()] * 3, engine, [], ["score"])} == {"score"}


def test_an_error_closes_everything() -> None:
    log: list[str] = []
    with pytest.raises(RuntimeError), closed_at_the_end(Recorder("engine", log), [Recorder("judge", log), BaseJudge()]):
        raise RuntimeError
    assert log == ["close engine", "close judge"]


def test_wrong_engines_are_refused_before_anything_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEFT_BENCH_VLLM_PYTHON", raising=False)
    assert open_engine("transformers", tmp_path, False) is None
    with pytest.raises(InputError, match=r"unknown engine 'tgi': known are transformers, vllm, vllm-in-process"):
        open_engine("tgi", tmp_path, False)
    with pytest.raises(InputError, match="with --server the server does"):
        open_engine("vllm", tmp_path, False, served_elsewhere=True)
    with pytest.raises(InputError, match="SEFT_BENCH_VLLM_PYTHON does not name its python"):
        open_engine("vllm", tmp_path, False)


def test_in_process_needs_vllm_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from seft_bench.generators import vllm_engine

    monkeypatch.setattr(vllm_engine.importlib.metadata, "packages_distributions", dict)
    vllm_engine.engine_version.cache_clear()
    with pytest.raises(InputError, match=r"vLLM is not installed in this environment(.|\n)*or use `--engine vllm`"):
        InProcessEngine(tmp_path, False)


def test_ready_answers_stay_ready_answers(tmp_path: Path) -> None:
    from seft_bench.evaluation.engines import ServerEngine
    from seft_bench.inference.vllm.environment import VLLMEnvironment
    from seft_bench.inference.vllm.server import VLLMServer

    engine = ServerEngine.__new__(ServerEngine)
    engine.server = VLLMServer(VLLMEnvironment("python", "vllm 1", True), tmp_path)
    ready = Subject("m", "f", object, ready=True)
    assert engine.answers_for(ready) is ready
    checkpoint = engine.answers_for(Subject("m", "f", object, folder=tmp_path))
    assert checkpoint.engine == "vllm 1"
