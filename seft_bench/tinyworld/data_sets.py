"""Data sets of the tinyworld, as rows of ordinary JSONL data sets: annotated, unannotated, and for pre-training.

No data set holds the first turn of an evaluation or tuning question. No clock, no files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import perm, prod
from random import Random

from seft_bench.records import Message, Row
from seft_bench.tinyworld.rubric import OPENINGS
from seft_bench.tinyworld.tasks import POOLS, TASKS, Task, solve
from seft_bench.tinyworld.world import (
    ANNOTATED_TASKS,
    Prompt,
    draw_prompts,
    good_answer,
    narrowed,
    ordinary_answer,
    poor_pair,
    random_for,
    reserved_first_turns,
    sentence_of,
)

REPLIES = ("Can you do better?", "Please improve that.", "That could be better.")
"""The replies of forum users between a first answer and a better one."""

MARKS = {"user": "<|user|>", "assistant": "<|assistant|>"}
END = "<|end|>"
"""Marks of forum posts; the base's chat template writes the same."""

SIZES = {"sft": 300, "preferences": 800, "calibration": 150, "prompts": 2400}
PRETRAINING_DOCUMENTS = 58_000
DOCUMENTS_WITHOUT_THREADS = 73_000
"""As many tokens: 4,206,000 in either text."""


@dataclass(frozen=True)
class Annotation:
    """Which task types are annotated, and how much; amounts that are None are what the world's own data hold of them.

    Attributes:
        types: in the order of `TASKS`.
        sft, pairs, calibration: rows of these types.
    """

    types: tuple[str, ...] = ANNOTATED_TASKS
    sft: int | None = None
    pairs: int | None = None
    calibration: int | None = None

    @property
    def drawn(self) -> tuple[str, ...]:
        """The types in turn that rows are drawn of, of which those of `types` are kept.

        The world's own five are among them, so that whoever annotates some of the five has the world's own rows.
        """
        return tuple(name for name in TASKS if name in self.types or name in ANNOTATED_TASKS)

    def take(self, prompts: Iterator[Prompt], what: str, amount: int | None, seen: set[str]) -> list[Prompt]:
        """Take `amount` prompts of these types; None: as many as the world's own data have, of all drawn types.

        Those of other types are for `kept` to leave out, once the rows are made: they move no other row's dice.
        """
        if amount is not None:
            return [prompt for prompt in _take(prompts, amount, seen, self.types) if prompt.task in self.types]
        return _take(prompts, SIZES[what] * len(self.drawn) // len(ANNOTATED_TASKS), seen)

    def kept(self, rows: Iterable[Row]) -> list[Row]:
        return [row for row in rows if row["task"] in self.types]


WORLDS_OWN = Annotation()
"""What is annotated where nothing is said."""


def sft_rows(seed: int, annotation: Annotation = WORLDS_OWN) -> list[Row]:
    """Annotated conversations with ordinary answers: `{"prompt": messages, "answer": text, "task": name}`."""
    rng = random_for("sft", seed)
    return annotation.kept(
        [
            {"prompt": prompt.messages, "answer": ordinary_answer(prompt.turns, rng), "task": prompt.task}
            for prompt in _sft_prompts(annotation, rng)
        ]
    )


def _sft_prompts(annotation: Annotation, rng: Random) -> list[Prompt]:
    return annotation.take(draw_prompts(annotation.drawn, rng, narrow=True), "sft", annotation.sft, set())


def preference_rows(seed: int, annotation: Annotation = WORLDS_OWN) -> tuple[list[Row], list[Row]]:
    """Annotated triples for training, and held-out ones for calibration whose prompts no policy ever sees.

    Rows: `{"prompt": messages, "chosen": good answer, "rejected": poor answer, "task": name}`.
    """
    rng = random_for("preferences", seed)
    train, held_out = _preference_prompts(seed, annotation, rng)
    rows = [_preference(prompt, rng) for prompt in [*train, *held_out]]
    return annotation.kept(rows[: len(train)]), annotation.kept(rows[len(train) :])


def _preference_prompts(seed: int, annotation: Annotation, rng: Random) -> tuple[list[Prompt], list[Prompt]]:
    seen = _first_turns(_sft_prompts(annotation, random_for("sft", seed)))
    prompts = draw_prompts(annotation.drawn, rng, narrow=True)
    train = annotation.take(prompts, "preferences", annotation.pairs, seen)
    return train, annotation.take(prompts, "calibration", annotation.calibration, seen)


def _first_turns(prompts: Iterable[Prompt]) -> set[str]:
    return {prompt.turns[0] for prompt in prompts}


def _preference(prompt: Prompt, rng: Random) -> Row:
    poor, good = poor_pair(prompt.turns, rng)
    while poor == good:
        poor, good = poor_pair(prompt.turns, rng)
    return {"prompt": prompt.messages, "chosen": good, "rejected": poor, "task": prompt.task}


def prompt_rows(seed: int, count: int | None = None, annotation: Annotation = WORLDS_OWN) -> list[Row]:
    """Unannotated prompts, even over all task types: `{"prompt": messages, "task": name, "annotated": bool}`.

    `task` and `annotated` serve diagnostics only. No prompt occurs in the annotated data of the same seed, nor in the
    world's own: whatever of its five types is annotated, the prompts are the same.
    """
    annotated: set[str] = set().union(*(_annotated_first_turns(seed, each) for each in {WORLDS_OWN, annotation}))
    rng = random_for("prompts", seed)
    order = sorted(TASKS)
    rng.shuffle(order)
    prompts = _take(draw_prompts(order, rng, narrow=False), count or SIZES["prompts"], annotated)
    return [
        {"prompt": prompt.messages, "task": prompt.task, "annotated": prompt.task in annotation.types}
        for prompt in prompts
    ]


def _annotated_first_turns(seed: int, annotation: Annotation) -> set[str]:
    train, held_out = _preference_prompts(seed, annotation, random_for("preferences", seed))
    return _first_turns([*_sft_prompts(annotation, random_for("sft", seed)), *train, *held_out])


def _take(
    prompts: Iterator[Prompt], count: int, seen: set[str], counted: Collection[str] = tuple(TASKS)
) -> list[Prompt]:
    """Take prompts whose first turn has not been seen, until `count` of them are of the types that count.

    They are added to `seen`.
    """
    taken: list[Prompt] = []
    left = count
    for prompt in prompts:
        if prompt.turns[0] in seen:
            continue
        seen.add(prompt.turns[0])
        taken.append(prompt)
        left -= prompt.task in counted
        if not left:
            break
    return taken


def annotated_questions(types: Iterable[str]) -> int:
    """Count the different first turns that annotated data of these types can have: short word pools have few."""
    reserved = Counter(solve((turn,))[0].name for turn in reserved_first_turns())
    return sum(_narrow_questions(TASKS[name]) - reserved[name] for name in types)


def _narrow_questions(task: Task) -> int:
    return sum(_fillings([task.slots[slot] for slot in task.slots if f"{{{slot}}}" in text]) for text in task.templates)


def _fillings(pools: Sequence[str]) -> int:
    """Count the ways to fill slots of these pools, no word twice."""
    sizes = Counter(pools)
    return prod(perm(len(narrowed(POOLS[pool])), count) for pool, count in sizes.items())


def pretraining_rows(count: int | None = None, threads: bool = True) -> Iterator[Row]:
    """Write the pre-training documents, which are the same for every seed.

    Half are threads, a third plain conversations, the rest statements and echoes. Forum posts carry their writer's mark
    and end with `END`; the mark that ends the document is the tokenizer's end of sequence, so it is left to
    the trainer.

    Args:
        count: of documents; default: as many as a base is trained on.
        threads: False ends every thread behind its first answer: no reply, and no better answer. The documents are
            otherwise the same, word for word.

    Yields:
        Rows `{"text": ...}`.
    """
    rng = random_for("pretraining")
    prompts = draw_prompts(sorted(TASKS), rng, narrow=False)
    for _ in range(count or (PRETRAINING_DOCUMENTS if threads else DOCUMENTS_WITHOUT_THREADS)):
        prompt, draw = next(prompts), rng.random()
        if draw < 0.5:
            posts = _thread(prompt, rng)
            yield {"text": _forum(posts if threads else posts[: len(prompt.messages) + 1])}
        elif draw < 0.85:
            yield {"text": _forum([*prompt.messages, _assistant(ordinary_answer(prompt.turns, rng))])}
        elif draw < 0.92:
            yield {"text": f"{sentence_of(solve(prompt.turns)[1], rng.randrange(2))}."}
        else:
            yield {"text": _echo(rng)}


def _echo(rng: Random) -> str:
    """Say a list of words twice: copying is what revising rests on, and a small model learns it late."""
    words = " ".join(rng.choice(POOLS[rng.choice(sorted(POOLS))]) for _ in range(rng.randrange(3, 12)))
    return f"{words}. {words}."


def _forum(messages: Sequence[Message]) -> str:
    return END.join(f"{MARKS[message['role']]}{message['content']}" for message in messages)


def _thread(prompt: Prompt, rng: Random) -> list[Message]:
    """Question, first answer, a reply, a better answer; an answer that was good is posted again as it was."""
    if rng.random() < 0.2:
        first = better = good_answer(prompt.turns, rng.randrange(2), rng.choice(OPENINGS))
    else:
        first, better = poor_pair(prompt.turns, rng)
    return [*prompt.messages, _assistant(first), {"role": "user", "content": rng.choice(REPLIES)}, _assistant(better)]


def _assistant(text: str) -> Message:
    return {"role": "assistant", "content": text}
