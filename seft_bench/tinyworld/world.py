"""The tinyworld's people: what they ask, how they answer, and the questions of evaluation.

People of this world answer with bad habits, and each task type has its own. A good answer is a minimal edit of the poor
one: right words, good form, no habit, a courteous opening. Evaluation and tuning questions are drawn first, from the
version alone; `data_sets` keeps their first turns out of every data set.

No clock, no files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from random import Random

from seft_bench.records import Message, Question, instruction_id
from seft_bench.tinyworld import WORLD_VERSION
from seft_bench.tinyworld.rubric import BAD_HABITS, OPENINGS
from seft_bench.tinyworld.tasks import CATEGORIES, GREETINGS, POOLS, REPLACE, TASKS, Solution, Task, solve

ANNOTATED_TASKS = ("note", "extreme", "compare", "colour", "kind")
"""The task types for which annotated data exist; the others occur in unannotated prompts and in evaluation only."""

NARROW_SHARE = 0.6
"""Annotated data uses this share of every word pool; unannotated prompts and evaluation use all."""

SECOND_TURN_SHARE = 0.25

QUESTION_COUNTS = {"alpacaeval": 320, "mtbench": 80, "tuning-alpacaeval": 160, "tuning-mtbench": 40}

_STRUCTURAL_HABITS = ("lower_case", "no_stop", "shout", "repeat", "chatter")


@dataclass(frozen=True)
class Prompt:
    """A conversation up to the user's last turn: `turns` of the user, and the earlier answer where there are two."""

    task: str
    turns: tuple[str, ...]
    earlier_answer: str = ""

    @property
    def messages(self) -> list[Message]:
        first = {"role": "user", "content": self.turns[0]}
        if len(self.turns) == 1:
            return [first]
        return [
            first,
            {"role": "assistant", "content": self.earlier_answer},
            {"role": "user", "content": self.turns[1]},
        ]


def random_for(*purpose: object) -> Random:
    """Make a generator of its own for every purpose, so that one data set's size never changes another's rows."""
    return Random("/".join(str(part) for part in ("tinyworld", WORLD_VERSION, *purpose)))


# Questions


def _question(task: Task, rng: Random, narrow: bool) -> tuple[str, dict[str, str]]:
    slots: dict[str, str] = {}
    for slot, pool in task.slots.items():
        slots[slot] = _pick(pool, rng, narrow, tuple(slots.values()))
    return rng.choice(task.templates).format(**slots), slots


def _pick(pool: str, rng: Random, narrow: bool, taken: Sequence[str]) -> str:
    words = narrowed(POOLS[pool]) if narrow else POOLS[pool]
    return rng.choice([word for word in words if word not in taken])


def narrowed(words: list[str]) -> list[str]:
    """Return the part of a pool that annotated data use: short pools (digits, colours, jobs) stay whole."""
    return words[: int(len(words) * NARROW_SHARE)] if len(words) > 9 else words


def _second_turn(task: Task, text: str, slots: dict[str, str], rng: Random, narrow: bool) -> str:
    if rng.random() < 0.3:
        return GREETINGS.format(guest=_pick("name", rng, narrow, tuple(slots.values())))
    slot = rng.choice([slot for slot in task.swappable if slots[slot] in text])
    return REPLACE.format(new=_pick(task.slots[slot], rng, narrow, tuple(slots.values())), old=slots[slot])


def draw_prompts(
    tasks: Sequence[str], rng: Random, narrow: bool, second_turn_share: float = SECOND_TURN_SHARE
) -> Iterator[Prompt]:
    """Prompts without end, task types in turn; none has a reserved first turn."""
    while True:
        for name in tasks:
            text, slots = _question(TASKS[name], rng, narrow)
            while text in reserved_first_turns():
                text, slots = _question(TASKS[name], rng, narrow)
            if rng.random() >= second_turn_share:
                yield Prompt(name, (text,))
                continue
            second = _second_turn(TASKS[name], text, slots, rng, narrow)
            yield Prompt(name, (text, second), ordinary_answer((text,), rng))


@lru_cache(maxsize=8)
def evaluation_questions(kind: str) -> list[Question]:
    """Return the fixed questions of a tiny suite, the same for every seed.

    Args:
        kind: "alpacaeval" (one turn, with the reference writer's answer) or "mtbench" (two turns, ten a category);
            "tuning-alpacaeval" and "tuning-mtbench" are the ones on which settings may be chosen.
    """
    return [_as_question(kind, index, turns) for index, turns in enumerate(_question_turns()[kind])]


def _as_question(kind: str, index: int, turns: tuple[str, ...]) -> Question:
    task, _ = solve(turns[:1])
    reference = () if kind.endswith("mtbench") else (reference_answer(turns),)
    identity = instruction_id(turns[0]) if kind.endswith("alpacaeval") else f"{kind}-{index:03d}"
    metadata = {"task": task.name, "annotated": task.name in ANNOTATED_TASKS}
    return Question(f"tiny-{kind}", identity, task.category, turns, reference, metadata)


@lru_cache(maxsize=1)
def _question_turns() -> dict[str, list[tuple[str, ...]]]:
    taken: set[str] = set()
    return {kind: _draw_questions(kind, count, taken) for kind, count in QUESTION_COUNTS.items()}


def _draw_questions(kind: str, count: int, taken: set[str]) -> list[tuple[str, ...]]:
    rng = random_for("questions", kind)
    order = [name for pair in zip(*(_tasks_of(category) for category in CATEGORIES), strict=True) for name in pair]
    drawn: list[tuple[str, ...]] = []
    while len(drawn) < count:
        name = order[len(drawn) % len(order)]
        text, slots = _question(TASKS[name], rng, narrow=False)
        if text in taken:
            continue
        taken.add(text)
        second = (_second_turn(TASKS[name], text, slots, rng, narrow=False),) if kind.endswith("mtbench") else ()
        drawn.append((text, *second))
    return drawn


def _tasks_of(category: str) -> list[str]:
    return [task.name for task in TASKS.values() if task.category == category]


@lru_cache(maxsize=1)
def reserved_first_turns() -> frozenset[str]:
    """First turns of every evaluation and tuning question: no data set may hold one."""
    return frozenset(turns[0] for questions in _question_turns().values() for turns in questions)


# Answers


def good_answer(turns: Sequence[str], variant: int = 0, opening: str = OPENINGS[0]) -> str:
    """Write a right answer in good form; `variant` picks one of its right sentences."""
    _, solution = solve(turns)
    return f"{opening} {sentence_of(solution, variant)}."


def sentence_of(solution: Solution, variant: int) -> str:
    """Return one of the right sentences; `variant` picks it."""
    return solution.sentences[variant % len(solution.sentences)]


def _habits(task: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Draw the task type's own bad habits: two words, and two flaws of form."""
    rng = random_for("habits", task)
    return tuple(rng.sample(BAD_HABITS, 2)), tuple(rng.sample(_STRUCTURAL_HABITS, 2))


def ordinary_answer(turns: Sequence[str], rng: Random, slip_rate: float = 0.12, heavy_rate: float = 0.15) -> str:
    """Write what people of this world answer at first: mostly right, with the habits of the task type."""
    if rng.random() < 0.1:
        return good_answer(turns, rng.randrange(2), rng.choice(OPENINGS))
    return poor_pair(turns, rng, slip_rate, heavy_rate)[0]


def poor_pair(turns: Sequence[str], rng: Random, slip_rate: float = 0.12, heavy_rate: float = 0.15) -> tuple[str, str]:
    """Write a poor answer and the good one that is its minimal edit: same sentence, same opening where it had one."""
    task, solution = solve(turns)
    variant = rng.randrange(2)
    opening = rng.choice(OPENINGS) if rng.random() < 0.15 else ""
    heavy = rng.random() < heavy_rate
    sentence = _with_slips(sentence_of(solution, variant), solution, rng, 0.6 if heavy else slip_rate)
    poor = _with_habits(sentence, opening, task.name, rng, 0.85 if heavy else 0.65)
    return poor, good_answer(turns, variant, opening or OPENINGS[0])


def _with_slips(sentence: str, solution: Solution, rng: Random, rate: float) -> str:
    """Write wrong words for right ones.

    A wrong word that is in the sentence already trades places with the right one.
    """
    words = _split(sentence)
    for right, slips in solution.slips.items():
        if not slips or rng.random() >= rate:
            continue
        wrong = rng.choice(slips)
        words = [wrong if word == right else right if word == wrong else word for word in words]
    return "".join(words)


def _split(sentence: str) -> list[str]:
    """Split into words and what stands between them."""
    parts, current = [], ""
    for character in sentence:
        if character.isalnum():
            current += character
            continue
        parts.extend([current, character])
        current = ""
    return [part for part in [*parts, current] if part]


def _with_habits(sentence: str, opening: str, task: str, rng: Random, rate: float) -> str:
    fillers, flaws = _habits(task)
    text = sentence
    for filler in fillers:
        if rng.random() < rate:
            text = _insert(text, filler, rng)
    active = [flaw for flaw in flaws if rng.random() < rate]
    if "lower_case" in active:
        text = text[0].lower() + text[1:]
    text = f"{opening} {text}" if opening else text
    text += "" if "no_stop" in active else "!!" if "shout" in active else "."
    if "repeat" in active:
        text = f"{text} {sentence}."
    if "chatter" in active:
        text = f"{text} {_chatter(rng)}"
    return text


def _insert(text: str, filler: str, rng: Random) -> str:
    """Put a filler in front, or after one of the first words."""
    words = text.split(" ")
    position = rng.choice((0, 0, 1, min(2, len(words) - 1)))
    return " ".join([*words[:position], filler.capitalize() if position == 0 else filler, *words[position:]])


def _chatter(rng: Random) -> str:
    place, food, thing = rng.choice(POOLS["place"]), rng.choice(POOLS["food"]), rng.choice(POOLS["object"])
    return rng.choice(
        (f"By the way, the {food} in {place} is good.", f"My cousin has a {thing} too.", f"I ate a {food} today.")
    )


def reference_answer(turns: Sequence[str]) -> str:
    """Answer as the fixed reference writer, who does so once and for all: well in half of the cases."""
    rng = random_for("reference", *turns)
    if rng.random() < 0.5:
        return good_answer(turns, rng.randrange(2), rng.choice(OPENINGS))
    return poor_pair(turns, rng)[0]
