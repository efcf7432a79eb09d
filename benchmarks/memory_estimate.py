"""The estimate of `train --dry-run` against the peaks of real trainings on the CPU, each in a process of its own.

    python benchmarks/memory_estimate.py [--case NAME ...]

Two measures of the same training, in two processes. "allocated" is what torch asked its allocator for, as its profiler
saw it, with the weights: what a GPU's allocator would be asked for, too. "process" is what the process grew above what
it held before it loaded the model; it holds more, because freed memory is not all given back at once, and because
kernels of the CPU take scratch memory past torch's allocator.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from train_memory import SHAPES, Training, prepare, resident_megabytes

TOKENS, STEPS = 512, 2
MEGABYTE = 1 << 20

CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "float32": ("12 layers", "sft", {"micro_batch_size": 4}),
    "float32, checkpointing": ("12 layers", "sft", {"micro_batch_size": 4, "gradient_checkpointing": True}),
    "float32, accumulation": ("12 layers", "sft", {"micro_batch_size": 4, "global_batch_size": 8}),
    "mixed": ("12 layers", "sft", {"micro_batch_size": 4, "precision": "mixed"}),
    "padding-free": ("12 layers", "sft", {"micro_batch_size": 4, "padding_free": True}),
    "padding-free, mixed, checkpointing": (
        "12 layers", "sft", {"micro_batch_size": 4, "precision": "mixed", "gradient_checkpointing": True,
                             "padding_free": True},
    ),
    "DPO, bfloat16": ("12 layers", "dpo", {"micro_batch_size": 2, "precision": "bfloat16"}),
    "small LoRA bfloat16, checkpointing": (
        "12 layers", "sft", {"micro_batch_size": 4, "precision": "bfloat16", "gradient_checkpointing": True,
                             "lora": {"rank": 16}},
    ),
    "135m bfloat16, checkpointing": (
        "135m", "sft", {"micro_batch_size": 2, "precision": "bfloat16", "gradient_checkpointing": True},
    ),
    "135m bfloat16, checkpointing, accumulation": (
        "135m", "sft", {"micro_batch_size": 1, "global_batch_size": 2, "precision": "bfloat16",
                        "gradient_checkpointing": True},
    ),
    "135m LoRA bfloat16, checkpointing": (
        "135m", "sft", {"micro_batch_size": 2, "precision": "bfloat16", "gradient_checkpointing": True,
                        "lora": {"rank": 16}},
    ),
    "135m LoRA bfloat16": ("135m", "sft", {"micro_batch_size": 2, "precision": "bfloat16", "lora": {"rank": 16}}),
    "0.5b bfloat16, checkpointing": (
        "0.5b", "sft", {"micro_batch_size": 1, "precision": "bfloat16", "gradient_checkpointing": True},
    ),
}  # fmt: skip
"""Name -> (shape, loss, settings); without global_batch_size a step is one micro-batch."""

SMALL = {"vocab_size": 8192, "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 12,
         "num_attention_heads": 8, "num_key_value_heads": 4}  # fmt: skip
SHAPES["12 layers"] = ("LlamaConfig", SMALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append", help="default: all")
    parser.add_argument("--worker", nargs=3, metavar=("MEASURE", "CASE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        measure, case, folder = options.worker
        print(json.dumps(MEASURES[measure](case, Path(folder))))
        return
    print(f"{'MB':45}{'estimate':>10}{'allocated':>10}{'process':>10}{'of allocated':>14}{'of process':>12}")
    for case in options.case or CASES:
        found = compare(case)
        estimate, allocated, process = (found[name] for name in ("estimate", *MEASURES))
        ratios = f"{estimate / allocated:>14.2f}{estimate / process:>12.2f}"
        print(f"{case:45}{estimate:>10.0f}{allocated:>10.0f}{process:>10.0f}{ratios}", flush=True)


def compare(case: str) -> dict[str, float]:
    """Megabytes of a case: the "estimate", and the peaks "allocated" and "process"."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder, CASES[case][0], STEPS * settings_of(case).global_batch_size)
        measured = {measure: in_own_process(measure, case, folder) for measure in MEASURES}
        return {"estimate": estimated(case, folder), **measured}


def settings_of(case: str) -> Any:
    from training.settings import TrainSettings

    given = CASES[case][2]
    common = {"learning_rate": 1e-5, "max_steps": STEPS, "max_length": TOKENS, "device": "cpu"}
    return TrainSettings(**{**common, "global_batch_size": given["micro_batch_size"], **given})


def estimated(case: str, folder: Path) -> float:
    """Megabytes that a dry run would say, by the longest sequence there is."""
    from training.memory import estimate_memory
    from training.probe import shape_of
    from training.settings import TrainJob

    settings = settings_of(case)
    examples = examples_of(TrainJob(settings, CASES[case][1]), folder)
    sequences = [sequence for example in examples for sequence in example.sequences]
    count = settings.micro_batch_size * len(examples[0].sequences)
    longest = max(example.length for example in examples)
    labelled = max(sequence.labelled for sequence in sequences)
    shape = shape_of(folder / "model")
    return estimate_memory(shape, settings, count, longest, labelled).peak / MEGABYTE


def in_own_process(measure: str, case: str, folder: Path) -> float:
    # Freed blocks of 64 KB and more go back to the system at once, as far as the C library can be asked to.
    returned = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    quiet = {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, __file__, "--worker", measure, case, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **returned, **quiet})
    if done.returncode:
        sys.exit(f"{measure} {case} failed:\n{done.stderr[-3000:]}")
    return float(done.stdout.splitlines()[-1])


def process_megabytes(case: str, folder: Path) -> float:
    """Megabytes that this process holds at its peak above what it held before."""
    import peft  # noqa: F401
    from transformers import LlamaForCausalLM, Qwen2ForCausalLM

    import training.run

    _ = LlamaForCausalLM, Qwen2ForCausalLM, training.run
    before = resident_megabytes()
    run = opened(case, folder)
    while run.step < STEPS:
        run.take_step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before


def allocated_megabytes(case: str, folder: Path) -> float:
    """Megabytes of tensors at the peak: weights, and what was allocated beyond them while steps were taken."""
    from torch.profiler import ProfilerActivity, profile

    run = opened(case, folder)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        while run.step < STEPS:
            run.take_step()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    return (highest + sum(weight.nbytes for weight in run.model.parameters())) / MEGABYTE


def opened(case: str, folder: Path) -> Any:
    """Make a training ready for its first step; what a reference says decides no memory."""
    import torch

    from training.adapters import open_start
    from training.run import Run
    from training.settings import TrainJob

    torch.set_num_threads(1)
    job = TrainJob(settings_of(case), CASES[case][1])
    examples = examples_of(job, folder)
    started = open_start(folder / "model", job, folder / "merged-base")
    return Run(started.model, examples, torch.zeros(len(examples), 2) if job.loss == "dpo" else None, job)


def examples_of(job: Any, folder: Path) -> list[Any]:
    from seft_bench.chat import load_tokenizer
    from training.data import data_rules, load_examples
    from training.probe import shape_of

    rules = data_rules(job, shape_of(folder / "model").config)
    return load_examples(Training(job.loss, "", folder, STEPS).data, load_tokenizer(folder / "model"), rules)[0]


MEASURES: dict[str, Callable[[str, Path], float]] = {"allocated": allocated_megabytes, "process": process_megabytes}

if __name__ == "__main__":
    main()
