"""Training throughput on one CPU thread: our loop against TRL at its best settings, in the same run.

    python benchmarks/train_throughput.py [--shape tiny] [--loss sft] [--rows 256] [--repeats 2]    (the extra `trl`)

Models of random weights, float32, batch 8, every row once: "tiny", a 4-layer Llama (hidden 256, vocabulary 4096, 3.9M
parameters) on 256 rows of 32 to 256 tokens a sequence, and "smollm2", the shape of SmolLM2-135M (30 layers, vocabulary
49,152) on 32 rows of 32 to 128. Every measurement is a process of its own, ours and TRL's in turn. CPU seconds cover
all that a user waits for once imports are done and the model is loaded: tokenising, reference log-probabilities, all
steps. Tokens are real ones: padding does not count.

The aim: 1.25 times TRL at its best (SFT) and 1.3 times (DPO) on the tiny model, 1.1 times in SmolLM2's shape.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

BATCH_SIZE, LEARNING_RATE = 8, 1e-4
SHAPES: dict[str, tuple[int, int, dict[str, int]]] = {
    "tiny": (256, 256, {"vocab_size": 4096, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4,
                        "num_attention_heads": 4, "num_key_value_heads": 4}),
    "smollm2": (32, 128, {"vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
                          "num_attention_heads": 9, "num_key_value_heads": 3}),
}  # fmt: skip
"""Name -> (rows, tokens of the longest sequence, values of the configuration)."""
ENGINES = {
    "ours": "our loop",
    "trl-plain": "TRL, fp32, no checkpointing",
    "trl-best": "TRL at its best: also grouped by length, reference precomputed",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="tiny")
    parser.add_argument("--loss", choices=("sft", "dpo"), action="append", help="default: both")
    parser.add_argument("--rows", type=int, help="default: 256 for the tiny model, 32 for SmolLM2's shape")
    parser.add_argument("--repeats", type=int, default=2, help="the best of so many runs counts")
    parser.add_argument("--worker", nargs=3, metavar=("ENGINE", "LOSS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        engine, loss, folder = options.worker
        print(json.dumps(measure(engine, loss, Path(folder))))
        return
    if importlib.util.find_spec("trl") is None:
        sys.exit('TRL is not installed, so there is nothing to compare with: pip install "seft-bench[trl]"')
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), options.shape, options.rows)
        losses = options.loss or ("sft", "dpo")
        print_table({loss: best_runs(loss, Path(folder), options.repeats) for loss in losses})


def prepare(folder: Path, shape: str, rows: int | None = None) -> None:
    """Save the model, and rows whose sequences have 32 tokens or more, about half of them the answer's."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from seft_bench.chat import prompt_ids
    from tests.tiny_model import make_tiny_tokenizer

    tokenizer = make_tiny_tokenizer(4096)
    torch.manual_seed(0)
    usual_rows, longest, sizes = SHAPES[shape]
    config = LlamaConfig(max_position_embeddings=512, tie_word_embeddings=True, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    generator = random.Random(0)

    def text(tokens: int) -> str:
        words = " ".join(
            generator.choice(("fox", "river", "lazy", "five", "violet", "zx", "two")) for _ in range(tokens)
        )
        return str(tokenizer.decode(tokenizer(words, add_special_tokens=False)["input_ids"][:tokens]))

    overhead = len(prompt_ids(tokenizer, [{"role": "user", "content": ""}])) + 1
    with open(folder / "pairs.jsonl", "w") as pairs, open(folder / "sft.jsonl", "w") as single:
        for _ in range(rows or usual_rows):
            tokens = generator.randint(32, longest) - overhead
            prompt = [{"role": "user", "content": text(tokens // 2)}]
            chosen, rejected = text(tokens - tokens // 2), text(generator.randint(tokens // 4, tokens // 2))
            pairs.write(json.dumps({"prompt": prompt, "chosen": chosen, "rejected": rejected}) + "\n")
            single.write(json.dumps({"prompt": prompt, "answer": chosen}) + "\n")


def best_runs(loss: str, folder: Path, repeats: int) -> dict[str, dict[str, float]]:
    """The fastest of `repeats` runs of every engine, taken in turn so that a busy machine hits all alike."""
    runs: dict[str, list[dict[str, float]]] = {engine: [] for engine in ENGINES}
    for _ in range(repeats):
        for engine in ENGINES:
            runs[engine].append(in_own_process(engine, loss, folder))
            print(f"{loss} {engine}: {runs[engine][-1]}", file=sys.stderr)
    return {engine: max(measured, key=lambda run: run["tokens_per_cpu_second"]) for engine, measured in runs.items()}


def in_own_process(engine: str, loss: str, folder: Path) -> dict[str, float]:
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(folder / "cache"),
    }
    command = [sys.executable, __file__, "--worker", engine, loss, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{engine} {loss} failed:\n{done.stderr[-3000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(engine: str, loss: str, folder: Path) -> dict[str, float]:
    import torch

    torch.set_num_threads(1)
    tokens = count_tokens(folder, loss)
    with tempfile.TemporaryDirectory() as out:
        cpu_seconds = (
            run_ours(loss, folder, Path(out))
            if engine == "ours"
            else run_trl(loss, folder, Path(out), best=engine == "trl-best")
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "tokens_per_cpu_second": round(tokens / cpu_seconds, 1),
        "cpu_seconds": round(cpu_seconds, 2),
        "tokens": tokens,
        "peak_rss_megabytes": round(peak),
    }


def data_file(folder: Path, loss: str) -> Path:
    return folder / ("sft.jsonl" if loss == "sft" else "pairs.jsonl")


def count_tokens(folder: Path, loss: str) -> int:
    from seft_bench.chat import load_tokenizer
    from training.data import DataRules, load_examples

    rules = DataRules(max_length=512, rows="answers" if loss == "sft" else "pairs")
    return load_examples(data_file(folder, loss), load_tokenizer(folder / "model"), rules)[1].tokens


def run_ours(loss: str, folder: Path, out: Path) -> float:
    from training.loop import TrainJob, TrainSettings, train

    settings = TrainSettings(
        learning_rate=LEARNING_RATE,
        epochs=1,
        global_batch_size=BATCH_SIZE,
        micro_batch_size=BATCH_SIZE,
        max_length=512,
        device="cpu",
    )
    return train(folder / "model", data_file(folder, loss), out / "run", TrainJob(settings, loss)).cpu_seconds


def run_trl(loss: str, folder: Path, out: Path, best: bool) -> float:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    model = AutoModelForCausalLM.from_pretrained(folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    rows = [json.loads(line) for line in data_file(folder, loss).read_text().splitlines()]
    data = Dataset.from_list([trl_row(row) for row in rows])
    common: dict[str, Any] = {
        "output_dir": str(out),
        "per_device_train_batch_size": BATCH_SIZE,
        "num_train_epochs": 1,
        "learning_rate": LEARNING_RATE,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "max_length": 512,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    if best:
        common["train_sampling_strategy"] = "group_by_length"
    start = time.process_time()
    if loss == "sft":
        trainer = SFTTrainer(model=model, args=SFTConfig(**common), train_dataset=data, processing_class=tokenizer)
    else:
        # Grouping needs lengths, which DPO's tokenised rows do not offer by themselves.
        common |= (
            {"precompute_ref_log_probs": True, "precompute_ref_batch_size": BATCH_SIZE, "remove_unused_columns": False}
            if best
            else {}
        )
        data = data.add_column("length", [row_length(tokenizer, row) for row in rows]) if best else data
        trainer = DPOTrainer(model=model, args=DPOConfig(**common), train_dataset=data, processing_class=tokenizer)
    trainer.train()
    return time.process_time() - start


def trl_row(row: dict[str, Any]) -> dict[str, Any]:
    answers = (
        {"completion": row["answer"]} if "answer" in row else {"chosen": row["chosen"], "rejected": row["rejected"]}
    )
    return {
        "prompt": row["prompt"],
        **{name: [{"role": "assistant", "content": text}] for name, text in answers.items()},
    }


def row_length(tokenizer: Any, row: dict[str, Any]) -> int:
    return len(tokenizer(row["prompt"][0]["content"] + max(row["chosen"], row["rejected"], key=len))["input_ids"])


def print_table(results: dict[str, dict[str, dict[str, float]]]) -> None:
    print(f"{'':64}" + "".join(f"{loss.upper():>28}" for loss in results))
    for engine, title in ENGINES.items():
        cells = [results[loss][engine] for loss in results]
        print(
            f"{title:64}"
            + "".join(
                f"{cell['tokens_per_cpu_second']:>12.0f} tok/s {cell['peak_rss_megabytes']:>6.0f} MB" for cell in cells
            )
        )
    for engine in list(ENGINES)[1:]:
        ratios = [
            results[loss]["ours"]["tokens_per_cpu_second"] / results[loss][engine]["tokens_per_cpu_second"]
            for loss in results
        ]
        print(f"{'ratio of ours to ' + engine:64}" + "".join(f"{ratio:>21.2f} times" for ratio in ratios))


if __name__ == "__main__":
    main()
