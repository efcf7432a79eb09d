"""Runs one stage of a method: train through `training`, sample and revise through `generators`, score through `judges`.

A stage's folder is named by the hash of everything that decides its outcome, so methods with equal stages share them, a
finished stage is never run again, and a killed one goes on. This is the only module that reaches `training`.
"""

from __future__ import annotations

import importlib
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from seft_bench.errors import InputError
from seft_bench.files import Row, locked, read_json, read_jsonl, sha256_file, sha256_folder, sha256_json, write_json, write_jsonl
from seft_bench.records import Stage

FORMAT = 1
"""Raised when a change of the code changes what a stage makes: old folders are then not taken for new ones."""

Progress = Callable[[str, int, int], None]


def training(module: str) -> Any:
    """A module of the training package: `training` in a checkout, `seft_bench._training` in a wheel."""
    try:
        return importlib.import_module(f"seft_bench._training.{module}")
    except ModuleNotFoundError as error:
        if error.name not in ("seft_bench._training", f"seft_bench._training.{module}"):
            raise
    return importlib.import_module(f"training.{module}")


@dataclass(frozen=True)
class Workshop:
    """Where stages are run and what they start from.

    Attributes:
        folder: holds one folder a stage.
        base: checkpoint folder. data: folder of JSONL data sets.
        diagnostics_judge: name of a judge that grades revisions, for the diagnostics only.
    """

    folder: Path
    base: Path
    data: Path
    seed: int
    diagnostics_judge: str | None = None
    progress: Progress = field(default=lambda stage, done, total: None)


@dataclass(frozen=True)
class StageRun:
    """A finished stage: its folder and what it cost."""

    stage: Stage
    folder: Path
    record: Mapping[str, Any]

    @property
    def model(self) -> Path:
        """The last checkpoint of a train stage."""
        return self.folder / "checkpoints" / str(self.record["checkpoints"][-1])


def run_stages(stages: Sequence[Stage], shop: Workshop) -> list[StageRun]:
    """Run a method's stages in order; finished ones are taken as they are."""
    done: dict[str, StageRun] = {}
    for stage in stages:
        done[stage.name] = run_stage(stage, done, shop)
    return list(done.values())


def run_stage(stage: Stage, done: Mapping[str, StageRun], shop: Workshop) -> StageRun:
    identity = _identity(stage, done, shop)
    folder = shop.folder / f"{stage.name}-{sha256_json(identity)[:10]}"
    with locked(shop.folder / ".locks" / folder.name):  # a second cell that needs the same stage waits for it
        if not (folder / "stage.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            clock = _Clock()
            outcome = _RUNNERS[stage.kind](stage, _inputs(stage, done, shop), folder, shop)
            write_json(folder / "stage.json", {"identity": identity, "name": stage.name, "kind": stage.kind, **clock.read(), **outcome})
    return StageRun(stage, folder, read_json(folder / "stage.json", "record of a stage"))


class _Clock:
    """CPU and wall time of a stage in this process."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.monotonic()

    def read(self) -> Row:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return {"cpu_seconds": time.process_time() - self._cpu, "wall_seconds": time.monotonic() - self._wall, "peak_rss_megabytes": peak}


def _identity(stage: Stage, done: Mapping[str, StageRun], shop: Workshop) -> Row:
    """All that decides a stage's outcome: kind, settings, seed, and the contents of its inputs."""
    inputs = {role: _fingerprint(source, done, shop) for role, source in sorted(stage.inputs.items())}
    judge = shop.diagnostics_judge if stage.kind == "revise" else None
    return {"format": FORMAT, "kind": stage.kind, "settings": dict(stage.settings), "seed": shop.seed, "inputs": inputs, "diagnostics_judge": judge}


def _fingerprint(source: str, done: Mapping[str, StageRun], shop: Workshop) -> str:
    kind, _, name = source.partition(":")
    if kind == "stage":
        return done[name].folder.name
    return _folder_hash(shop.base) if kind == "base" else _file_hash(_data_file(shop, name))


@lru_cache(maxsize=64)
def _folder_hash(folder: Path) -> str:
    return sha256_folder(folder)


@lru_cache(maxsize=64)
def _file_hash(path: Path) -> str:
    return sha256_file(path)


def _data_file(shop: Workshop, name: str) -> Path:
    path = shop.data / f"{name}.jsonl"
    if not path.is_file():
        there = ", ".join(sorted(child.name for child in shop.data.glob("*.jsonl"))) or "no .jsonl file"
        raise InputError(f"data set {name!r} not found: {path}. In {shop.data}: {there}. docs/data.md says what each data set holds.")
    return path


def _inputs(stage: Stage, done: Mapping[str, StageRun], shop: Workshop) -> dict[str, Path]:
    """Role -> folder of a model, or file of rows."""
    return {role: _resolve(role, source, done, shop) for role, source in stage.inputs.items()}


def _resolve(role: str, source: str, done: Mapping[str, StageRun], shop: Workshop) -> Path:
    kind, _, name = source.partition(":")
    if kind == "base":
        return shop.base
    if kind == "data":
        return _data_file(shop, name)
    run = done[name]
    return run.model if run.stage.kind == "train" else run.folder / OUTPUTS[run.stage.kind]


OUTPUTS = {"sample": "drafts.jsonl", "score": "scores.jsonl", "revise": "revised.jsonl"}
"""The file of rows that a stage of each kind makes; a train stage makes checkpoints."""


# Train


def _run_train(stage: Stage, inputs: Mapping[str, Path], folder: Path, shop: Workshop) -> Row:
    """Make the training rows, which anyone can open, and train on them."""
    rows = training("shapes").shape_rows(stage.settings, {role: path for role, path in inputs.items() if path.suffix == ".jsonl"}, shop.seed)
    if not rows:
        raise InputError(f"stage {stage.name!r} has nothing to train on: its data set is empty")
    write_jsonl(folder / "training_rows.jsonl", rows)
    settings = training("settings").TrainSettings(**stage.settings["train"], seed=shop.seed)
    summary = training("loop").train(
        inputs["model"],
        folder / "training_rows.jsonl",
        folder,
        settings,
        reference_folder=inputs.get("reference"),
        progress=lambda step, steps, loss: shop.progress(stage.name, step, steps),
    )
    return {
        "steps": summary.steps,
        "tokens_trained": summary.tokens,
        "final_loss": summary.final_loss,
        "rows": len(rows),
        "checkpoints": [path.name for path in summary.checkpoints],
    }


# Sample


def _run_sample(stage: Stage, inputs: Mapping[str, Path], folder: Path, shop: Workshop) -> Row:
    """Draft answers to prompts: rows of the prompt with `draft` (the first sample) and `samples`."""
    settings = stage.settings
    prompts = _part(read_jsonl(inputs["prompts"], "prompts", ["prompt"]), settings)
    generator = _generator(inputs["model"], settings)
    keys = [(index, sample) for index in range(len(prompts)) for sample in range(settings["samples"])]
    sampling = _generators().Sampling
    completions = generator.complete(
        [prompts[index]["prompt"] for index, _ in keys],
        [sampling(f"{stage.name}/{index}/{sample}", settings["temperature"], settings["top_p"]) for index, sample in keys],
        settings["max_new_tokens"],
        shop.seed,
    )
    samples: list[list[str]] = [[] for _ in prompts]
    for (index, _), completion in zip(keys, completions, strict=True):
        samples[index].append(completion.text)
    write_jsonl(folder / OUTPUTS["sample"], [{**row, "draft": texts[0], "samples": texts} for row, texts in zip(prompts, samples, strict=True)])
    unannotated = sum("chosen" not in row for row in prompts)
    return {
        "prompts": len(prompts),
        "unannotated_prompts": unannotated,
        "tokens_generated": sum(completion.completion_tokens for completion in completions),
        "cut_off_share": sum(completion.finish_reason == "length" for completion in completions) / len(completions),
    }


def _part(prompts: list[Row], settings: Mapping[str, Any]) -> list[Row]:
    """The first `count` prompts, and of those this round's part."""
    wanted = prompts[: settings.get("count") or len(prompts)]
    part, parts = settings.get("part", 0), settings.get("parts", 1)
    chosen = wanted[part::parts]
    if not chosen:
        raise InputError(f"round {part + 1} of {parts} has no prompts left: there are {len(prompts)}")
    return chosen


def _generators() -> Any:
    return importlib.import_module("seft_bench.generators.transformers")


def _generator(model: Path, settings: Mapping[str, Any]) -> Any:
    return _generators().TransformersGenerator(model, model.name, batch_size=settings["batch_size"])


def _greedy(model: Path, conversations: Sequence[Any], settings: Mapping[str, Any]) -> tuple[list[str], int]:
    """Greedy completions, and how many tokens they took."""
    completions = _generator(model, settings).complete(
        conversations, [_generators().Sampling(str(index), 0.0) for index in range(len(conversations))], settings["max_new_tokens"], seed=0
    )
    return [completion.text for completion in completions], sum(completion.completion_tokens for completion in completions)


# Score: labels of annotated pairs, and thresholds


def _run_score(stage: Stage, inputs: Mapping[str, Path], folder: Path, shop: Workshop) -> Row:
    return {"labels": _score_labels, "calibration": _calibrate}[stage.settings["what"]](stage, inputs, folder)


def _score_labels(stage: Stage, inputs: Mapping[str, Path], folder: Path) -> Row:
    """Labels of annotated pairs from the preliminary reviser's likelihoods: rows of the pair with delta and label."""
    pairs = read_jsonl(inputs["data"], "preference pairs", ["prompt", "chosen", "rejected"])
    reviser, instruction = training("reviser"), stage.settings["instruction"]
    prompts = [reviser.revision_prompt(row["prompt"], row["rejected"], instruction) for row in pairs]
    good = _mean_logprobs(inputs["reviser"], prompts, [row["chosen"] for row in pairs])
    poor = _mean_logprobs(inputs["reviser"], prompts, [row["rejected"] for row in pairs])
    deltas = [reviser.delta(*both) for both in zip(good, poor, strict=True)]
    labels = reviser.label_pairs(deltas, stage.settings["levels"])
    rows = [{**row, "delta": delta, "label": label} for row, delta, label in zip(pairs, deltas, labels, strict=True)]
    write_jsonl(folder / OUTPUTS["score"], rows)
    return {"label_counts": {label: labels.count(label) for label in reviser.LABEL_TEXTS}, "good_answers": {"no_revise": len(pairs)}}


def _calibrate(stage: Stage, inputs: Mapping[str, Path], folder: Path) -> Row:
    """A threshold that keeps few of the poor drafts. A draft is poor when the reviser prefers the annotated good answer to it."""
    rows = read_jsonl(inputs["data"], "calibration drafts", ["prompt", "chosen", "draft"])
    reviser, settings = training("reviser"), stage.settings
    prompts = [reviser.revision_prompt(row["prompt"], row["draft"], settings["instruction"]) for row in rows]
    good = _mean_logprobs(inputs["reviser"], prompts, [row["chosen"] for row in rows])
    own = _mean_logprobs(inputs["reviser"], prompts, [row["draft"] for row in rows])
    poor = [reviser.delta(*both) > 0 for both in zip(good, own, strict=True)]
    statistics, _, tokens = _draft_statistics([row["prompt"] for row in rows], [row["draft"] for row in rows], inputs, settings)
    calibration = reviser.calibrate(statistics, poor, settings["max_poor_kept"])
    scored = [{**row, "statistic": value, "poor": bad} for row, value, bad in zip(rows, statistics, poor, strict=True)]
    write_jsonl(folder / OUTPUTS["score"], scored)
    return {"calibration": vars(calibration) | {"threshold": _finite(calibration.threshold)}, "tokens_generated": tokens}


def _finite(value: float) -> float:
    """JSON has no infinity; this is beyond every log-probability."""
    return max(value, -1e9)


def _mean_logprobs(model: Path, prompts: Sequence[Any], answers: Sequence[str]) -> list[float]:
    """Mean log-probability per token of each answer, its stop token included."""
    scores = training("logprobs").score_answers(model, None, list(zip(prompts, answers, strict=True)))
    return [score.sum / max(1, score.tokens) for score in scores]


def _draft_statistics(
    prompts: Sequence[Any], drafts: Sequence[str], inputs: Mapping[str, Path], settings: Mapping[str, Any]
) -> tuple[list[float], list[str] | None, int]:
    """The statistic that decides on each draft; the greedy revisions where it needs them, and the tokens they took."""
    reviser = training("reviser")
    asked = [reviser.revision_prompt(prompt, draft, settings["instruction"]) for prompt, draft in zip(prompts, drafts, strict=True)]
    if settings["decision"] == "token":
        return _label_statistics(inputs["decider"], asked), None, 0
    own = _mean_logprobs(inputs["reviser"], asked, drafts)
    if settings["statistic"] == "keep":
        return [reviser.keep_statistic(value) for value in own], None, 0
    revisions, tokens = _greedy(inputs["reviser"], asked, settings)
    revised = _mean_logprobs(inputs["reviser"], asked, revisions)
    return [reviser.mode_statistic(*both) for both in zip(own, revised, strict=True)], revisions, tokens


def _label_statistics(decider: Path, asked: Sequence[Any]) -> list[float]:
    """Log-odds of the emitted label "no revise" against the likeliest other one."""
    texts = training("reviser").LABEL_TEXTS
    scores = {
        label: [score.sum for score in training("logprobs").score_answers(decider, None, [(prompt, text) for prompt in asked])] for label, text in texts.items()
    }
    others = [label for label in texts if label != "no_revise"]
    return [keep - max(scores[label][index] for label in others) for index, keep in enumerate(scores["no_revise"])]


# Revise


def _run_revise(stage: Stage, inputs: Mapping[str, Path], folder: Path, shop: Workshop) -> Row:
    """Decide on every draft, revise the ones that are not kept, and save what the policy shall learn as `answer`."""
    rows = read_jsonl(inputs["data"], "drafts", ["prompt", "draft", "samples"])
    outcome, tokens = _DECIDERS.get(stage.settings["decision"], _decide_and_revise)(rows, inputs, stage.settings)
    for row in outcome:
        row["answer"] = row["draft"] if row["kept"] else row["revision"]
    write_jsonl(folder / OUTPUTS["revise"], outcome)
    diagnostics = training("reviser").revision_summary(outcome)
    if shop.diagnostics_judge:
        diagnostics |= importlib.import_module("seft_bench.diagnostics").grade_revisions(outcome, shop.diagnostics_judge, folder)
    return {"diagnostics": diagnostics, "tokens_generated": tokens}


Decided = tuple[list[Row], int]
"""Rows with kept, statistic and revision (what replaces the draft where it is not kept), and the tokens generated for it."""


def _best_samples(rows: Sequence[Row], inputs: Mapping[str, Path], settings: Mapping[str, Any]) -> Decided:
    """Internal evolution: of the policy's own samples the one that the reviser would rather keep."""
    reviser = training("reviser")
    flat = [(row["prompt"], text) for row in rows for text in row["samples"]]
    asked = [reviser.revision_prompt(prompt, text, settings["instruction"]) for prompt, text in flat]
    scores = iter(_mean_logprobs(inputs["reviser"], asked, [text for _, text in flat]))
    best = [max((next(scores), text) for text in row["samples"]) for row in rows]
    return [{**row, "kept": text == row["draft"], "statistic": None, "revision": text} for row, (_, text) in zip(rows, best, strict=True)], 0


def _keep_all(rows: Sequence[Row], inputs: Mapping[str, Path], settings: Mapping[str, Any]) -> Decided:
    """The policy's own drafts, unrevised."""
    return [{**row, "kept": True, "statistic": None, "revision": ""} for row in rows], 0


def _revise_all(rows: Sequence[Row], inputs: Mapping[str, Path], settings: Mapping[str, Any]) -> Decided:
    """Always rewrite."""
    reviser = training("reviser")
    revisions, tokens = _greedy(inputs["reviser"], [reviser.revision_prompt(row["prompt"], row["draft"], settings["instruction"]) for row in rows], settings)
    return [{**row, "kept": False, "statistic": None, "revision": text} for row, text in zip(rows, revisions, strict=True)], tokens


def _decide_and_revise(rows: Sequence[Row], inputs: Mapping[str, Path], settings: Mapping[str, Any]) -> Decided:
    """External evolution: keep the drafts whose statistic reaches this round's threshold, revise the others."""
    statistics, revisions, tokens = _draft_statistics([row["prompt"] for row in rows], [row["draft"] for row in rows], inputs, settings)
    if revisions is None:
        revised, tokens = _revise_all(rows, inputs, settings)
        revisions = [row["revision"] for row in revised]
    threshold = read_json(inputs["calibration"].parent / "stage.json")["calibration"]["threshold"]
    decided = zip(rows, statistics, revisions, strict=True)
    return [{**row, "kept": value >= threshold, "statistic": value, "revision": revision} for row, value, revision in decided], tokens


_DECIDERS = {"best_sample": _best_samples, "never": _keep_all, "always": _revise_all}


_RUNNERS: dict[str, Callable[[Stage, Mapping[str, Path], Path, Workshop], Row]] = {
    "train": _run_train,
    "sample": _run_sample,
    "score": _run_score,
    "revise": _run_revise,
}
