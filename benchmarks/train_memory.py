"""Peak memory of bfloat16 training on the CPU: our loop against TRL with the same settings, in the same run.

    python benchmarks/train_memory.py [--shape 135m] [--loss sft] [--weights lora] [--steps 2]
    (needs the extra `trl`)

Models of random weights in the shapes of SmolLM2-135M and of Qwen2.5-0.5B (24 layers, vocabulary 151,936). Both train
with bfloat16 weights, AdamW and gradient checkpointing on the same rows of 512 tokens, in batches of 8 (135M) and of 4
(0.5B, since TRL's logits of 8 pairs would not fit a small machine): all weights ("full"), or LoRA of rank 16 on all
linear layers. Every measurement is a process of its own, and counts what it takes at its peak above what it held before
it loaded the model: weights, gradients, optimizer, activations. TRL's AdamW rounds its weights to bfloat16 after every
step, ours keeps what that would lose (docs/decisions/bfloat16-training.md).
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

TOKENS, LEARNING_RATE = 512, 1e-5
BATCH_SIZE = {"tiny": 8, "135m": 8, "0.5b": 4}
RANK, ALPHA = 16, 32
ENGINES = ("trl", "ours")
WEIGHTS = ("full", "lora")
SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "tiny": ("LlamaConfig", {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
                             "num_attention_heads": 4, "num_key_value_heads": 2}),
    "135m": ("LlamaConfig", {"vocab_size": 49_152, "hidden_size": 576, "intermediate_size": 1536,
                             "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3}),
    "0.5b": ("Qwen2Config", {"vocab_size": 151_936, "hidden_size": 896, "intermediate_size": 4864,
                             "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2}),
}  # fmt: skip
"""Name -> (class of the configuration, its values); "tiny" is for tests."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), action="append", help="default: 135m and 0.5b")
    parser.add_argument("--loss", choices=("sft", "dpo"), action="append", help="default: both")
    parser.add_argument("--weights", choices=WEIGHTS, action="append", help="default: both")
    parser.add_argument("--steps", type=int, default=2, help="the second step is the first with a full optimizer")
    parser.add_argument("--worker", nargs=4, metavar=("ENGINE", "LOSS", "WEIGHTS", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        engine, loss, weights, folder = options.worker
        print(json.dumps(measure(engine, Training(loss, weights, Path(folder), options.steps))))
        return
    if importlib.util.find_spec("trl") is None:
        sys.exit('TRL is not installed, so there is nothing to compare with: pip install "seft-bench[trl]"')
    print(f"{'':16}{'TRL':>12}{'ours':>12}{'ours / TRL':>12}")
    for shape in options.shape or ("135m", "0.5b"):
        with tempfile.TemporaryDirectory() as folder:
            prepare(Path(folder), shape, options.steps * BATCH_SIZE[shape])
            for weights, loss in itertools.product(options.weights or WEIGHTS, options.loss or ("sft", "dpo")):
                training = Training(loss, weights, Path(folder), options.steps)
                trl, ours = (in_own_process(engine, training) for engine in ENGINES)
                print(f"{f'{shape} {weights} {loss}':16}{trl:>9.0f} MB{ours:>9.0f} MB{ours / trl:>12.2f}", flush=True)


class Training(NamedTuple):
    """One training, which both engines run.

    Attributes:
        folder: holds the model, the rows, and the number of rows a step as `batch_size`.
    """

    loss: str
    weights: str
    folder: Path
    steps: int

    @property
    def data(self) -> Path:
        return self.folder / ("sft.jsonl" if self.loss == "sft" else "pairs.jsonl")

    @property
    def batch_size(self) -> int:
        return len(self.data.read_text().splitlines()) // self.steps


def prepare(folder: Path, shape: str, rows: int) -> None:
    """Save a model of random weights in bfloat16, and rows of 512 tokens, half of them the answer's."""
    import torch
    import transformers

    from tests.tiny_model import make_tiny_tokenizer

    torch.manual_seed(0)
    kind, values = SHAPES[shape]
    config = getattr(transformers, kind)(max_position_embeddings=2048, tie_word_embeddings=True, **values)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(folder / "model")
    tokenizer = make_tiny_tokenizer(512)
    tokenizer.save_pretrained(folder / "model")
    generator = random.Random(0)

    def text(tokens: int) -> str:
        # Twice as many words as needed: the decoded text is cut where it has so many tokens.
        words = " ".join(generator.choice(("fox", "river", "lazy", "five", "violet")) for _ in range(2 * tokens))
        return str(tokenizer.decode(tokenizer(words, add_special_tokens=False)["input_ids"][:tokens]))

    half = TOKENS // 2
    with open(folder / "pairs.jsonl", "w") as pairs, open(folder / "sft.jsonl", "w") as single:
        for _ in range(rows):
            # The template's own marks and the stop token take a few tokens.
            prompt, chosen, rejected = [{"role": "user", "content": text(half - 4)}], text(half - 2), text(half - 2)
            pairs.write(json.dumps({"prompt": prompt, "chosen": chosen, "rejected": rejected}) + "\n")
            single.write(json.dumps({"prompt": prompt, "answer": chosen}) + "\n")


def in_own_process(engine: str, training: Training) -> float:
    """Megabytes at the peak of one training above what the process held before."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(training.folder / "cache"),
    }
    worker = [engine, training.loss, training.weights, str(training.folder)]
    command = [sys.executable, __file__, "--steps", str(training.steps), "--worker", *worker]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(worker)} failed:\n{done.stderr[-3000:]}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{engine} {training.weights} {training.loss}: {result}", file=sys.stderr, flush=True)
    return result["peak_megabytes"]


def measure(engine: str, training: Training) -> dict[str, float]:
    run = {"ours": run_ours, "trl": run_trl}[engine]
    import_everything(engine)
    with tempfile.TemporaryDirectory() as out:
        before = resident_megabytes()
        run(training, Path(out))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak_megabytes": round(peak - before, 1), "before_megabytes": round(before, 1)}


def import_everything(engine: str) -> None:
    """Load code and libraries before the baseline is taken, so that both engines start from their own."""
    import torch
    from transformers import LlamaForCausalLM, Qwen2ForCausalLM

    torch.set_num_threads(1)
    _ = LlamaForCausalLM, Qwen2ForCausalLM
    if engine == "trl":
        from trl import DPOTrainer, SFTTrainer

        _ = DPOTrainer, SFTTrainer
    else:
        import training.loop

        _ = training.loop


def resident_megabytes() -> float:
    """Resident memory now, from the system's own record."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("this benchmark reads /proc/self/status, which only Linux has")


def run_ours(training: Training, out: Path) -> None:
    from training.loop import TrainJob, TrainSettings, train
    from training.settings import LoraSettings

    settings = TrainSettings(
        learning_rate=LEARNING_RATE,
        max_steps=training.steps,
        global_batch_size=training.batch_size,
        micro_batch_size=training.batch_size,
        max_length=TOKENS,
        device="cpu",
        precision="bfloat16",
        gradient_checkpointing=True,
        lora=LoraSettings(rank=RANK, alpha=ALPHA, dropout=0.0) if training.weights == "lora" else None,
    )
    train(training.folder / "model", training.data, out / "run", TrainJob(settings, training.loss))


def run_trl(training: Training, out: Path) -> None:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    model = AutoModelForCausalLM.from_pretrained(training.folder / "model", dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(training.folder / "model")
    rows = [json.loads(line) for line in training.data.read_text().splitlines()]
    common: dict[str, Any] = {
        "output_dir": str(out),
        "per_device_train_batch_size": training.batch_size,
        "max_steps": training.steps,
        "learning_rate": LEARNING_RATE,
        "bf16": False,  # no autocast: the weights are bfloat16 themselves
        "gradient_checkpointing": True,
        "use_cpu": True,
        "max_length": TOKENS,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    if training.loss == "dpo":
        common |= {"precompute_ref_log_probs": True, "precompute_ref_batch_size": training.batch_size}
    trainer_of, config_of = {"sft": (SFTTrainer, SFTConfig), "dpo": (DPOTrainer, DPOConfig)}[training.loss]
    data = Dataset.from_list([trl_row(row) for row in rows])
    lora = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer_of(
        model=model,
        args=config_of(**common),
        train_dataset=data,
        processing_class=tokenizer,
        peft_config=lora if training.weights == "lora" else None,
    ).train()


def trl_row(row: dict[str, Any]) -> dict[str, Any]:
    answers = {"completion": row["answer"]} if "answer" in row else {name: row[name] for name in ("chosen", "rejected")}
    messages = {name: [{"role": "assistant", "content": text}] for name, text in answers.items()}
    return {"prompt": row["prompt"], **messages}


if __name__ == "__main__":
    main()
