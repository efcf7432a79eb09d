"""kill -9 inside every kind of stage: the run goes on, to the bytes of a run that nobody killed.

A new kind of stage, or a new decision, grader or kind of training rows, is a line in `METHODS_KILLED`; a test says so
where it is missing.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
import yaml

from seft_bench.files import read_jsonl
from tests.conftest import REPOSITORY
from tests.faults.chat_server import ChatServer
from tests.faults.killed_at import watch_writes
from tests.integration import priced
from tests.integration.cli import good, seft_bench
from tests.integration.grades import by_text
from tests.small_seft import STEP, small_seft, write_data
from training.loss_table import LOSSES
from training.methods import METHODS, build_stages
from training.stages import Stage

KEPT_STATE = {"save_state_every_minutes": 1e-4}
STEPS = {**STEP, **KEPT_STATE, "max_steps": 3, "device": "cpu"}
TRAININGS = dict.fromkeys(("start", "preliminary", "reviser", "decider", "teacher", "policy"), STEPS)
DRAFTS = {"max_new_tokens": 12, "batch_size": 4, "temperature": 1.0}

Killed = tuple[str, dict[str, Any]]

METHODS_KILLED: dict[str, Killed] = {
    "server": ("best-of-n", {"grader": "judge.yaml", "rounds": 1, "samples": 2}),
    "judge": ("best-of-n", {"grader": "rubric", "rounds": 1, "samples": 2, "prompts": 6}),
    "likelihood": ("iterative-dpo", {"rounds": 1, "samples": 2}),
    "words": ("self-rewarding", {"rounds": 1, "samples": 2, "judge": "prompt", "judging": {"max_new_tokens": 8}}),
    "spin": ("spin", {"rounds": 1}),
    "documents": ("pretrain", {}),
    "labels": ("kto", {}),
    "no reference": ("simpo", {}),
    "self-label": ("self-label", {}),
    "seft": ("seft", {"internal_samples": 2}),
    "token": ("seft", {"rounds": 1, "evolution": "external", "decision": "token"}),
    "margin": ("seft", {"rounds": 1, "evolution": "external", "decision": "margin", "reviser_kind": "plain"}),
    "candidates": ("seft", {"rounds": 1, "evolution": "external", "decision": "candidates", "candidates": 2}),
    "always": ("realign", {"rounds": 1, "decision": "always", "on_policy_pairs": True, "pair_samples": 2}),
    "never": ("seft", {"rounds": 1, "evolution": "external", "decision": "never"}),
    "aligner": ("aligner", {}),
    "reward model": ("reward-model", {"reward_model": {**STEPS, "validation": {"rows": 2, "every_steps": 1}}}),
    "online": ("grpo", {"drafts": {"max_new_tokens": 8}, "samples": 4}),
}
"""Name of the trial -> method and settings."""


def settings_of(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Few steps in every training of a method, whose state is saved after each."""
    known = METHODS[method].settings.model_fields
    few = {key: value for key, value in {**TRAININGS, "drafts": DRAFTS}.items() if key in known}
    return {**few, **({"train": STEPS} if method == "pretrain" else {}), **settings}


def kinds_of(stages: list[Stage]) -> set[str]:
    """Say what kinds of work stages are, as far as they go other ways through the code."""
    found = set()
    for stage in stages:
        if stage.kind == "train":
            found |= {f"train on {LOSSES[stage.loss].rows}", f"reference {LOSSES[stage.loss].needs_reference}"}
        elif stage.kind == "score" and stage.what == "grades":
            found.add("grade by " + ("words" if stage.asking else "judge" if stage.judge else "likelihood"))
        else:
            found.add(f"{stage.kind} {getattr(stage, 'decision', getattr(stage, 'what', ''))}")
    return found


def test_every_kind_of_stage_is_killed() -> None:
    killed = [build_stages(name, settings_of(name, given), 2) for name, given in METHODS_KILLED.values()]
    default = {kind for name in METHODS for kind in kinds_of(build_stages(name, {}, 2))}
    assert default <= {kind for stages in killed for kind in kinds_of(stages)}
    methods = {name for name, _ in METHODS_KILLED.values()}
    beside = {"sft", "sft-chosen", "rloo", *(name for name, loss in LOSSES.items() if loss.rows in ("pairs", "labels"))}
    assert set(METHODS) - beside <= methods, "a method that no trial kills"


@pytest.fixture
def trial(desk: Path, request: pytest.FixtureRequest, server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe on the desk, and a judge that grades for it."""
    from tests.tiny_model import make_tiny_model

    torch.set_num_threads(1)  # as in the process that is killed
    monkeypatch.setenv("JUDGE_KEY", "sk-not-a-real-key-12345")
    server.otherwise = by_text
    own = {"max_in_flight": AT_A_TIME, "input_usd_per_million_tokens": 0, "output_usd_per_million_tokens": 0}
    priced.write_judge(desk / "judge.yaml", server.url, **own)
    method, settings = METHODS_KILLED[request.param]
    recipe = small_seft(make_tiny_model(desk / "base", context_tokens=2048), write_data(desk / "data"))
    world = {"base": "tinyworld", "data": "tinyworld"} if settings.get("grader") == "rubric" else {}
    keys = {**recipe.as_row(), "method": method, "settings": settings_of(method, settings), **world}
    if method == "pretrain":
        (desk / "data" / "pretrain.jsonl").write_text(
            "".join(json.dumps({"text": f"{n} fish. " * 9}) + "\n" for n in range(9))
        )
    (desk / "recipe.yaml").write_text(yaml.safe_dump(keys))
    return str(request.param)


AT_A_TIME = 2
"""Requests that are on their way to the judge together."""


def train(out: str) -> list[str]:
    return ["train", "recipe.yaml", "--out", out, "--yes"]


STATUS = {"words": 2}
"""Of trials that end in a message: a tiny model cannot follow a judge's prompt."""


def whole_run(trial: str, desk: Path) -> dict[str, int]:
    """Train without being killed; return the writes in each stage's folder."""
    writes = Counter[str]()
    end = watch_writes(lambda stage: writes.update([stage]))
    try:
        with mock.patch.dict(os.environ, SEFT_BENCH_STORE=str(desk / "of-the-whole.sqlite")):
            good(seft_bench(*train("whole")), STATUS.get(trial, 0))
    finally:
        end()
    return dict(writes)


def kill(stage: str, number: int) -> None:
    script = Path(__file__).with_name("killed_at.py")
    child = subprocess.run(
        [sys.executable, str(script), stage, str(number), *train("killed")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == -signal.SIGKILL, (stage, number, child.stderr)


TIMES = {"cpu_seconds", "wall_seconds", "gpu_seconds", "peak_rss_megabytes", "process"}
UNLIKE = (".locks/", "timings.jsonl", "events.out", "manifest.json", "judgments.jsonl", ".lock")
"""Files that hold times, or arrive in another order."""


def outputs(run: Path) -> dict[str, object]:
    """Every file of a run that must not depend on being killed; records without times."""
    found: dict[str, object] = {}
    for path in sorted(run.rglob("*")):
        name = str(path.relative_to(run))
        is_unfinished = path.name.startswith(".")  # what a killed process was writing, under a name that nothing reads
        if not path.is_file() or is_unfinished or "/state/" in name or any(part in name for part in UNLIKE):
            continue
        content = path.read_bytes()
        found[name] = _timeless(json.loads(content)) if path.name in ("stage.json", "summary.json") else content
    for log in run.rglob("judgments.jsonl"):
        found[str(log.relative_to(run))] = sorted((row["key"], row["score"]) for row in read_jsonl(log))
    return found


def _timeless(value: object) -> object:
    """Leave out what every process has of its own."""
    if isinstance(value, dict):
        return {key: _timeless(below) for key, below in value.items() if key not in TIMES}
    return [_timeless(below) for below in value] if isinstance(value, list) else value


def assert_same(trial: str, desk: Path) -> None:
    good(seft_bench(*train("killed")), STATUS.get(trial, 0))
    whole, killed = outputs(desk / "whole"), outputs(desk / "killed")
    assert killed.keys() == whole.keys()
    assert [name for name in whole if whole[name] != killed[name]] == []


@pytest.mark.parametrize("trial", ["server"], indirect=True)
def test_killed_while_a_server_grades_it_ends_in_the_same_bytes(trial: str, desk: Path, server: ChatServer) -> None:
    writes = whole_run(trial, desk)
    asked = len(server.bodies)
    kill("grades-1", writes["grades-1"] // 2)
    assert_same(trial, desk)
    twice = len(server.bodies) - asked - asked
    assert 0 <= twice <= 1 + AT_A_TIME, "one more probe, and only what was on its way is asked twice"


@pytest.mark.slow
@pytest.mark.parametrize("trial", list(METHODS_KILLED), indirect=True)
def test_killed_in_every_stage_it_ends_in_the_same_bytes(trial: str, desk: Path) -> None:
    for stage, writes in whole_run(trial, desk).items():
        kill(stage, random.Random(f"{trial}/{stage}").randrange(writes))
    assert_same(trial, desk)
