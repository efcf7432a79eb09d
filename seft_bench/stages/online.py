"""What a training is helped with that draws its own answers: the project's decoder, and a grader that stays open."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seft_bench.chat import answer_ids, load_tokenizer, stop_ids
from seft_bench.checkpoints.batches import Batches
from seft_bench.checkpoints.weights import positions_of
from seft_bench.judge_quality.asking import ANONYMOUS
from seft_bench.judges.rewards import RewardReader, open_reader, read_samples
from seft_bench.records import Row
from seft_bench.stages import door
from seft_bench.stages.common import Find, Workshop
from seft_bench.stages.graders import Sampled, grade_requests, of_filled

if TYPE_CHECKING:
    from seft_bench.judges import Judge
    from seft_bench.stages.door import distributed, online, settings, stages

Grade = Callable[[Sequence[Sampled]], Sequence[float | None]]


@contextmanager
def open_helpers(stage: stages.Train, find: Find, shop: Workshop) -> Iterator[online.Helpers | None]:
    """Yield what draws and grades answers for a stage; None where it learns those of its data."""
    asked = stage.online
    if asked is None:
        yield None
        return
    draw = drawer(find(stage.model), stage.name, asked, shop.seed)
    if stage.reward_model:
        reader = open_reader(find(stage.reward_model), shop.processes.device("auto"))
        with reader.loaded():
            yield door.online.Helpers(draw, _by_reward(reader))
        return
    if asked.judge is None:
        device = shop.processes.device(stage.settings.device)
        yield door.online.Helpers(draw, _by_likelihood(find(stage.grader), device, stage.settings.micro_batch_size))
        return
    judge = shop.graders.judge(asked.judge) if shop.processes.is_main else None
    try:
        yield door.online.Helpers(draw, _by_judge(judge, shop.processes))
    finally:
        if judge:
            judge.close()


def drawer(model_folder: Path, name: str, asked: settings.Online, seed: int) -> online.Draw:
    """Return what draws from a policy as it is in memory; batches that do not fit there are halved."""
    from seft_bench.generators.conversations import Sampling
    from seft_bench.generators.transformers import decode

    stops, batches = stop_ids(load_tokenizer(model_folder)), Batches(asked.sampling_batch_size, f"answers of {name}")

    def draw(model: Any, prompts: Sequence[Sequence[int]], keys: Sequence[str]) -> list[list[int]]:
        context = positions_of(model.config) or 1 << 30

        def some(batch: Sequence[int]) -> list[list[int]]:
            samplings = [Sampling(f"{name}/{keys[index]}", 1.0) for index in batch]
            asked_now = [list(prompts[index]) for index in batch]
            return decode(model, asked_now, samplings, stops, asked.max_new_tokens, seed, context)

        found = dict(batches.over(sorted(range(len(prompts)), key=lambda index: len(prompts[index])), some))
        return [found[index] for index in range(len(prompts))]

    return draw


def _by_likelihood(folder: Path, device: str, batch_size: int) -> Grade:
    """Grade by the mean log-probability per token, the stop token included; an empty answer has no grade."""
    tokenizer = load_tokenizer(folder)
    model = door.checkpoint.load_model(folder).to(door.checkpoint.pick_device(device))

    def score(filled: list[Sampled]) -> list[float]:
        sequences = [door.tokens.Tokens.of(*answer_ids(tokenizer, prompt, text)) for prompt, text in filled]
        return [scored.mean for scored in door.logprobs.score_sequences(model, sequences, batch_size)]

    return lambda sampled: of_filled(sampled, score)


def _by_reward(reader: RewardReader) -> Grade:
    """Grade by a reward model; an empty answer has no grade."""

    def grade(sampled: Sequence[Sampled]) -> list[float | None]:
        return [item.reward if item else None for item in read_samples(reader, sampled)]

    return grade


def _by_judge(judge: Judge | None, processes: distributed.Processes) -> Grade:
    """Let the first process grade for all of them; the others have no judge."""

    def grade(sampled: Sequence[Sampled]) -> list[float | None]:
        mine: list[Row] = [{"prompt": list(prompt), "text": text} for prompt, text in sampled]
        parts = processes.gather(mine)
        everyone = [(row["prompt"], row["text"]) for part in parts for row in part]
        grades = processes.from_main(lambda: _asked(judge, everyone))
        before = sum(len(part) for part in parts[: processes.rank])
        return grades[before : before + len(sampled)]

    return grade


def _asked(judge: Judge | None, sampled: Sequence[Sampled]) -> list[float | None]:
    if judge is None:
        raise TypeError("only the first process asks")
    requests, found = grade_requests(sampled), dict[str, float | None]()
    judge.judge(requests, ANONYMOUS, lambda judgment: found.update({judgment.question_id: judgment.score}))
    return [found[request.question.id] for request in requests]
