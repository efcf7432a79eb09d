"""The managed server against real vLLM, in the environment that SEFT_BENCH_VLLM_PYTHON names (`make test-vllm`)."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from seft_bench.chat import load_tokenizer, prompt_ids, without_markup
from seft_bench.config import DecodingConfig
from seft_bench.errors import InputError, ServiceUnavailableError
from seft_bench.generators import Decoding
from seft_bench.generators.vllm_server import VLLMGenerator
from seft_bench.judges.prompts import render
from seft_bench.judges.vllm import VLLMJudge
from seft_bench.records import Answer, JudgeRequest, Judgment, Question
from tests.vllm.conftest import QUESTIONS, AnswersOf

pytestmark = pytest.mark.vllm
REPOSITORY = Path(__file__).resolve().parents[2]


def test_greedy_answers_equal_transformers_on_each_checkpoint(
    vllm_server: Any,
    checkpoints: tuple[Path, Path],
    answers_of: AnswersOf,
    by_transformers: Callable[[Path], dict[str, Answer]],
    tmp_path: Path,
) -> None:
    """Two turns, markup in a question; after the exchange of weights too; and no answer comes out of the other's
    store.
    """
    store, processes, seen = tmp_path / "store.sqlite", set(), {}
    for folder in (*checkpoints, checkpoints[0]):
        generator = VLLMGenerator(folder, "m", vllm_server, store_path=store)
        seen[folder] = answers_of(generator)
        processes.add(vllm_server.pid)
        assert seen[folder] == by_transformers(folder)
    assert len(processes) == 1
    assert all(
        seen[checkpoints[0]][question.id].turns != seen[checkpoints[1]][question.id].turns for question in QUESTIONS
    )


def test_the_prompt_is_ours_token_by_token(vllm_server: Any, checkpoints: tuple[Path, Path]) -> None:
    vllm_server.serve(checkpoints[0])
    tokenizer = load_tokenizer(checkpoints[0])
    messages = [
        {"role": "user", "content": "a <|end|> b"},
        {"role": "assistant", "content": " c "},
        {"role": "user", "content": "d"},
    ]
    told = vllm_server.post(
        "/tokenize",
        {
            "model": vllm_server.served_name,
            "messages": without_markup(tokenizer, messages),
            "add_generation_prompt": True,
        },
    )["tokens"]
    assert told == prompt_ids(tokenizer, messages)
    assert told.count(tokenizer.bos_token_id) == 1


def test_an_answer_at_the_end_of_the_context_is_cut_and_a_longer_prompt_is_over_length(
    vllm_server: Any,
    checkpoints: tuple[Path, Path],
    answers_of: AnswersOf,
    by_transformers: Callable[[Path], dict[str, Answer]],
) -> None:
    from seft_bench.generators.transformers import TransformersGenerator

    questions = [
        dataclasses.replace(QUESTIONS[0], id=str(words), turns=("a river " * words,)) for words in (80, 120, 400)
    ]
    found = answers_of(VLLMGenerator(checkpoints[0], "m", vllm_server), questions, tokens=500)
    expected = answers_of(TransformersGenerator(checkpoints[0], "m"), questions, tokens=500)
    assert [answer.finish_reasons for answer in expected.values()].count(("over_length",)) >= 1
    for key, answer in expected.items():
        assert (found[key].turns, found[key].finish_reasons, found[key].completion_tokens) == (
            answer.turns,
            answer.finish_reasons,
            answer.completion_tokens,
        )


def test_a_seed_is_a_sample(vllm_server: Any, checkpoints: tuple[Path, Path], answers_of: AnswersOf) -> None:
    generator = VLLMGenerator(checkpoints[0], "m", vllm_server)
    first, again, other = (answers_of(generator, temperature=1.0, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_server_killed_under_way_says_so_and_the_same_call_goes_on(
    vllm_server: Any, checkpoints: tuple[Path, Path], answers_of: AnswersOf
) -> None:
    generator = VLLMGenerator(checkpoints[1], "m", vllm_server)
    found: dict[str, Answer] = {}

    def take(answer: Answer) -> None:
        if not found:
            for process in engines_of(vllm_server.pid):
                os.kill(process, signal.SIGKILL)
        found[answer.question_id] = answer

    questions = [numbered(question, index) for index in range(40) for question in QUESTIONS]
    with pytest.raises(ServiceUnavailableError, match=r"the vLLM server died(.|\n)*its log"):
        generator.answer(questions, Decoding("d", DecodingConfig(temperature=0.0), 200, 0), take)
    assert 0 < len(found) < len(questions)
    missing = [question for question in QUESTIONS if question.id not in found]
    assert answers_of(generator, missing).keys() == {question.id for question in missing}


def numbered(question: Question, index: int) -> Question:
    return dataclasses.replace(question, id=f"{question.id}/{index}", turns=(f"{index} {question.turns[0]}",))


def engines_of(supervisor: int) -> list[int]:
    """The server's process and everything below it."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    below, found = {supervisor}, []
    for _ in range(5):
        found += sorted(process for process, parent in parents.items() if parent in below and process not in found)
        below |= set(found)
    return found


def test_tied_embeddings_are_answered_rightly_too(
    vllm_server: Any,
    tied: tuple[Path, Path],
    answers_of: AnswersOf,
    by_transformers: Callable[[Path], dict[str, Answer]],
) -> None:
    for folder in tied:
        assert answers_of(VLLMGenerator(folder, "m", vllm_server)) == by_transformers(folder)
    vllm_server.stop()


def test_a_folder_that_vllm_cannot_run_shows_the_end_of_its_log(
    new_server: Callable[..., Any], checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    broken = shutil.copytree(checkpoints[0], tmp_path / "broken")
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(
        json.dumps({**config, "architectures": ["NoSuchModelForCausalLM"], "model_type": "nothing"})
    )
    server = new_server()
    with pytest.raises(
        InputError,
        match=r"vLLM does not start on .*broken: exit status (.|\n)*its log .* ends:\n  \| (.|\n)*first error: ",
    ):
        server.serve(broken)
    assert not server.is_running


def test_a_preference_is_the_models_own_probability(judge_model: Path, tmp_path: Path) -> None:
    """Computed a second time from transformers' logits; the choice's two log-probabilities sum to 1."""
    questions = [QUESTIONS[index] for index in range(4)]
    requests = [
        JudgeRequest("preference", question, 1, ("A pike.",), (f"A trout {index}.",), candidate_first=index % 2 == 0)
        for index, question in enumerate(questions)
    ]
    judge = VLLMJudge(
        "local",
        str(judge_model),
        store_path=tmp_path / "store.sqlite",
        log_folder=tmp_path / "logs",
        server_arguments=["--max-model-len", "4000"],
    )
    found: list[Judgment] = []
    try:
        judge.check(["preference"])
        judge.judge(requests, "model", found.append)
    finally:
        judge.close()
    assert len({judgment.preference for judgment in found}) == len(requests)
    by_key = {judgment.key: judgment for judgment in found}
    assert [judgment.status for judgment in found] == ["ok"] * len(requests)
    for request in requests:
        judgment = by_key[request.key]
        assert sum(math.exp(judgment.details["top_logprobs"][choice]) for choice in ("m", "M")) == pytest.approx(
            1.0, abs=1e-5
        )
        assert judgment.preference == pytest.approx(own_preference(judge_model, request), abs=1e-3)


def own_preference(folder: Path, request: JudgeRequest) -> float:
    import torch

    from seft_bench.generators.transformers import load_causal_lm

    tokenizer, model = load_tokenizer(folder), load_causal_lm(folder)
    ids = prompt_ids(tokenizer, render(request, "seft-bench").messages)
    choices = [tokenizer.encode(choice, add_special_tokens=False)[0] for choice in ("m", "M")]
    with torch.inference_mode():
        first, second = torch.softmax(model(torch.tensor([ids])).logits[0, -1, choices].double(), 0).tolist()
    return 1.0 + (first if request.candidate_first else second)


def test_an_evaluation_that_is_terminated_leaves_no_server(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    """The command itself, once to its end on two checkpoints, and once ended by SIGTERM as soon as its server is up."""
    models = [str(shutil.copytree(folder, tmp_path / "models" / folder.name)) for folder in checkpoints]
    command = [
        sys.executable,
        "-m",
        "seft_bench.cli.main",
        "eval",
        *models,
        "--suite",
        "tiny-alpacaeval",
        "--engine",
        "vllm",
    ]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 240
    while not (below := engines_of(ended.pid)[1:]) and ended.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(5)
    below = engines_of(ended.pid)
    assert len(below) >= 2  # supervisor and server
    ended.terminate()
    ended.communicate(timeout=60)
    while any(alive(process) for process in below) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [process for process in below if alive(process)]
    whole = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert whole.returncode == 0, whole.stderr[-2000:]
    logs = sorted((tmp_path / "runs" / "vllm-logs").iterdir())
    assert len(logs) == 2  # one server for both checkpoints; the other log is the terminated one's
    rows = [
        json.loads(line)
        for path in (tmp_path / "runs" / "evaluations").glob("*vllm-cpu*/*/*/answers.jsonl")
        for line in path.read_text().splitlines()
    ]
    assert {row["model_id"] for row in rows} == {"a", "b"}


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
