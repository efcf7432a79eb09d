"""Tokens a CPU second of greedy answers: our vLLM server, our transformers generator, and plain `model.generate`.

    export SEFT_BENCH_VLLM_PYTHON=vllm-env/bin/python
    python benchmarks/generate_throughput.py [--prompts 128] [--tokens 64] [--repeats 2]

An untied Llama made on the spot (4 layers, hidden 256, vocabulary 4,096, random weights) answers the same prompts of 4
to 59 words with up to --tokens new tokens; answers end at different lengths. The loops in turn, in the same run, one
thread each, measurement after a warm-up on other prompts:

    vllm          `VLLMGenerator` over a server that is up already, as `eval --engine vllm` answers; the CPU seconds are
                  those of the server's processes plus ours
    drafts        `ServedGenerator` over the same server, which is sent token ids, as a recipe's `engine: vllm` drafts
    ours          `TransformersGenerator`, batch 128
    generate      `model.generate`, batch 32, prompts sorted by length and left-padded, as its documentation shows

CPU seconds, since the server may use more than one core. Starting the server and loading models does not count; what it
took is told. Every loop's texts are compared with generate's: "same" is the share that is equal.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from seft_bench.config import DecodingConfig
from seft_bench.errors import SeftBenchError
from seft_bench.generators import Decoding
from seft_bench.records import Answer, Question

LAYERS, HIDDEN, VOCABULARY, CONTEXT = 4, 256, 4096, 1024
GENERATE_BATCH = 32
STOP_SCALE = 2.0
"""Factor on the stop token's output row.

Its logit then wins now and then, so that answers end at different lengths, as real ones do.
"""
WORDS = ("fox", "river", "lazy", "five", "violet", "two", "quick", "name")
Loop = Callable[[Sequence[Question], int], dict[str, tuple[str, int]]]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=64, help="new tokens an answer at most")
    parser.add_argument("--repeats", type=int, default=2, help="the best of so many runs counts")
    options = parser.parse_args(arguments)
    try:
        compare(options.prompts, options.tokens, options.repeats)
    except SeftBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)


def compare(prompts: int, tokens: int, repeats: int) -> None:
    """Measure in turn and print.

    Raises:
        InputError: vLLM is not installed where SEFT_BENCH_VLLM_PYTHON says, or does not start.
    """
    from seft_bench.generators.transformers import TransformersGenerator
    from seft_bench.generators.vllm_server import VLLMGenerator
    from seft_bench.generators.vllm_tokens import ServedGenerator
    from seft_bench.inference.vllm.environment import find_environment
    from seft_bench.inference.vllm.server import VLLMServer

    environment = find_environment()
    with tempfile.TemporaryDirectory() as name, VLLMServer(environment, Path(name) / "logs") as server:
        folder = make_model(Path(name) / "model")
        started = time.monotonic()
        server.serve(folder)
        print(f"{environment.engine} ready after {time.monotonic() - started:.0f} s", file=sys.stderr)
        loops: dict[str, Loop] = {
            "vllm": answers_by(VLLMGenerator(folder, "m", server)),
            "drafts": answers_by(ServedGenerator(folder, "m", server)),
            "ours": answers_by(TransformersGenerator(folder, "m")),
            "generate": plain_generate(folder),
        }
        print_table(measure(loops, server.pid or 0, prompts, tokens, repeats))


def make_model(folder: Path) -> Path:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from tests.tiny_model import make_tiny_tokenizer

    tokenizer = make_tiny_tokenizer(VOCABULARY)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        initializer_range=0.1,
        hidden_size=HIDDEN,
        intermediate_size=688,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[tokenizer.eos_token_id] *= STOP_SCALE
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def questions(count: int, seed: int) -> list[Question]:
    generator = random.Random(seed)
    texts = [" ".join(generator.choice(WORDS) for _ in range(generator.randint(4, 60))) for _ in range(count)]
    return [Question("bench", f"{seed}/{index}", "", (text,)) for index, text in enumerate(texts)]


def answers_by(generator: Any) -> Loop:
    def answer(asked: Sequence[Question], tokens: int) -> dict[str, tuple[str, int]]:
        found: dict[str, tuple[str, int]] = {}
        decoding = Decoding("greedy", DecodingConfig(temperature=0.0), tokens, 0)

        def keep(answer: Answer) -> None:
            found[answer.question_id] = (answer.turns[0], answer.completion_tokens[0])

        generator.answer(asked, decoding, keep)
        return found

    return answer


def plain_generate(folder: Path) -> Loop:
    from seft_bench.chat import load_tokenizer, prompt_ids, stop_ids
    from seft_bench.generators.transformers import load_causal_lm

    tokenizer, model = load_tokenizer(folder), load_causal_lm(folder)
    tokenizer.padding_side = "left"

    def answer(asked: Sequence[Question], tokens: int) -> dict[str, tuple[str, int]]:
        prompts = {
            question.id: prompt_ids(tokenizer, [{"role": "user", "content": question.turns[0]}]) for question in asked
        }
        order, found, stops = sorted(prompts, key=lambda key: len(prompts[key])), {}, stop_ids(tokenizer)
        for start in range(0, len(order), GENERATE_BATCH):
            keys = order[start : start + GENERATE_BATCH]
            batch = tokenizer.pad({"input_ids": [prompts[key] for key in keys]}, return_tensors="pt")
            width = batch["input_ids"].shape[1]
            output = model.generate(**batch, max_new_tokens=tokens, do_sample=False, eos_token_id=stops)
            for key, row in zip(keys, output[:, width:].tolist(), strict=True):
                end = next((place for place, token in enumerate(row) if token in stops), None)
                ids = row if end is None else row[:end]
                found[key] = (tokenizer.decode(ids, skip_special_tokens=True).strip(), len(ids) + (end is not None))
        return found

    return answer


def measure(
    loops: dict[str, Loop], supervisor: int, prompts: int, tokens: int, repeats: int
) -> dict[str, dict[str, float]]:
    """Return tokens a CPU second and a second of each loop's best run, and the share of texts equal to generate's."""
    best: dict[str, dict[str, float]] = {}
    for loop in loops.values():  # as many as are measured: engines settle on a batch size at first sight of it
        loop(questions(prompts, 10_000), tokens)
    for repeat in range(repeats):
        asked, texts = questions(prompts, repeat), {}
        for name, loop in loops.items():
            cpu, wall = cpu_seconds(supervisor), time.monotonic()
            found = loop(asked, tokens)
            cpu, wall = cpu_seconds(supervisor) - cpu, time.monotonic() - wall
            texts[name] = found
            total = sum(count for _, count in found.values())
            row = {
                "tokens_per_answer": total / len(asked),
                "cpu_seconds": cpu,
                "tokens_per_cpu_second": total / cpu,
                "tokens_per_second": total / wall,
            }
            print(f"{name}: {row}", file=sys.stderr)
            best[name] = max(best.get(name, row), row, key=lambda measured: measured["tokens_per_cpu_second"])
        for name, found in texts.items():
            best[name]["same"] = sum(found[key][0] == text for key, (text, _) in texts["generate"].items()) / len(asked)
    return best


def cpu_seconds(supervisor: int) -> float:
    """Return CPU seconds of this process and of everything below the server's supervisor, running now."""
    ticks, parents = {}, {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(entry.name)], ticks[int(entry.name)] = int(fields[1]), int(fields[11]) + int(fields[12])
    below = {supervisor}
    while more := {process for process, parent in parents.items() if parent in below} - below:
        below |= more
    return sum(ticks.get(process, 0) for process in below) / os.sysconf("SC_CLK_TCK") + time.process_time()


def print_table(best: dict[str, dict[str, float]]) -> None:
    print(f"tokens an answer: {best['generate']['tokens_per_answer']:.0f} on average")
    print("loop      tokens/CPU s  of generate  of ours  tokens/s  same")
    for name, row in best.items():
        rate = row["tokens_per_cpu_second"]
        ratios = [rate / best[other]["tokens_per_cpu_second"] for other in ("generate", "ours")]
        print(
            f"{name:9} {rate:12.0f}  {ratios[0]:11.2f}  {ratios[1]:7.2f}  {row['tokens_per_second']:8.0f}  "
            f"{row['same']:4.0%}"
        )


if __name__ == "__main__":
    main()
