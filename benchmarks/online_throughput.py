"""Throughput of GRPO on one CPU thread: our loop against TRL's trainer, in the same run.

    python benchmarks/online_throughput.py [--beta 0] [--prompts 32] [--repeats 2]    (the extra `trl`)

A 4-layer Llama of random weights (hidden 256, vocabulary 4096, 3.9M parameters), float32. Each step draws 8 answers of
up to 48 tokens to each of 4 prompts of 16 to 128 tokens, rewards them by a rule that costs nothing, and takes one
optimizer step on the 32 answers; with --beta above 0 a reference is asked, too. Every measurement is a process of its
own, ours and TRL's in turn. CPU seconds cover all that a user waits for once imports are done and the model is loaded.
Tokens are those of prompts and answers that were learnt: padding does not count.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SAMPLES, BATCH_SIZE, LIMIT, LEARNING_RATE = 8, 32, 48, 1e-4
ENGINES = {"ours": "our loop", "trl": "TRL, fp32, no checkpointing"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beta", type=float, action="append", help="default: 0 and 0.04")
    parser.add_argument("--prompts", type=int, default=32, help="each is used once")
    parser.add_argument("--repeats", type=int, default=2, help="the best of so many runs counts")
    parser.add_argument("--worker", nargs=3, metavar=("ENGINE", "BETA", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        engine, beta, folder = options.worker
        print(json.dumps(measure(engine, float(beta), Path(folder))))
        return
    if importlib.util.find_spec("trl") is None:
        sys.exit('TRL is not installed, so there is nothing to compare with: pip install "seft-bench[trl]"')
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), options.prompts)
        betas = options.beta or (0.0, 0.04)
        print_table({beta: best_runs(beta, Path(folder), options.repeats) for beta in betas})


def prepare(folder: Path, prompts: int) -> None:
    """Save the model and the prompts."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.tiny_model import make_tiny_tokenizer

    tokenizer = make_tiny_tokenizer(4096)
    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=4096, max_position_embeddings=512, tie_word_embeddings=True, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    generator = random.Random(0)
    with open(folder / "prompts.jsonl", "w") as file:
        for _ in range(prompts):
            words = [generator.choice(("fox", "river", "lazy", "five", "two")) for _ in range(generator.randint(8, 60))]
            file.write(json.dumps({"prompt": [{"role": "user", "content": " ".join(words)}]}) + "\n")


def best_runs(beta: float, folder: Path, repeats: int) -> dict[str, dict[str, float]]:
    """The fastest of `repeats` runs of both engines, taken in turn so that a busy machine hits both alike."""
    runs: dict[str, list[dict[str, float]]] = {engine: [] for engine in ENGINES}
    for _ in range(repeats):
        for engine in ENGINES:
            runs[engine].append(in_own_process(engine, beta, folder))
            print(f"beta {beta:g} {engine}: {runs[engine][-1]}", file=sys.stderr)
    return {engine: max(measured, key=lambda run: run["tokens_per_cpu_second"]) for engine, measured in runs.items()}


def in_own_process(engine: str, beta: float, folder: Path) -> dict[str, float]:
    own = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, __file__, "--worker", engine, str(beta), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **own})
    if done.returncode:
        sys.exit(f"{engine} failed:\n{done.stderr[-3000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(engine: str, beta: float, folder: Path) -> dict[str, float]:
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as out:
        tokens, cpu_seconds = (run_ours if engine == "ours" else run_trl)(beta, folder, Path(out))
    rate = round(tokens / cpu_seconds, 1)
    return {"tokens_per_cpu_second": rate, "cpu_seconds": round(cpu_seconds, 2), "tokens": tokens}


def run_ours(beta: float, folder: Path, out: Path) -> tuple[int, float]:
    from seft_bench.stages.online import drawer
    from training.loop import TrainJob, TrainSettings, train
    from training.online import Helpers
    from training.settings import Online

    settings = TrainSettings(
        learning_rate=LEARNING_RATE,
        epochs=1,
        global_batch_size=BATCH_SIZE,
        micro_batch_size=BATCH_SIZE,
        device="cpu",
        report_to=[],
    )
    online = Online(SAMPLES, 1, LIMIT, BATCH_SIZE, "group")
    model, rewarded = folder / "model", lambda sampled: [reward(text) for _, text in sampled]
    helpers = Helpers(drawer(model, "policy", online, seed=0), rewarded)
    job = TrainJob(settings, "grpo", {"beta": beta, "loss_type": "dapo"}, online=online)
    reference = model if beta else None
    start = time.process_time()
    done = train(model, folder / "prompts.jsonl", out / "run", job, reference_folder=reference, helpers=helpers)
    return done.tokens, time.process_time() - start


def run_trl(beta: float, folder: Path, out: Path) -> tuple[int, float]:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    rows = [json.loads(line) for line in (folder / "prompts.jsonl").read_text().splitlines()]
    seen: list[int] = []

    def rewarded(prompts: Any, completions: Any, completion_ids: Any, **_: Any) -> list[float]:
        asked = (tokenizer.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"] for prompt in prompts)
        begun = time.process_time()
        seen.append(sum(len(ids) for ids in [*asked, *completion_ids]))
        counting.append(time.process_time() - begun)
        return [reward(completion[0]["content"]) for completion in completions]

    counting: list[float] = []
    config = GRPOConfig(
        output_dir=str(out),
        per_device_train_batch_size=BATCH_SIZE,
        num_generations=SAMPLES,
        max_completion_length=LIMIT,
        num_train_epochs=1,
        learning_rate=LEARNING_RATE,
        beta=beta,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    start = time.process_time()
    trainer = GRPOTrainer(
        model=model, reward_funcs=rewarded, args=config, train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )  # fmt: skip
    trainer.train()
    return sum(seen), time.process_time() - start - sum(counting)


def reward(text: str) -> float:
    """More different letters are better."""
    return float(len(set(text)))


def print_table(results: dict[float, dict[str, dict[str, float]]]) -> None:
    print("| beta | engine | tokens a CPU second | CPU seconds | tokens | times TRL |")
    print("|---:|---|---:|---:|---:|---:|")
    for beta, engines in results.items():
        for engine, run in engines.items():
            ratio = run["tokens_per_cpu_second"] / engines["trl"]["tokens_per_cpu_second"]
            figures = f"{run['tokens_per_cpu_second']:,.0f} | {run['cpu_seconds']:.1f} | {run['tokens']:,}"
            print(f"| {beta:g} | {ENGINES[engine]} | {figures} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
