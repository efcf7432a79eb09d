"""The truth about the tinyworld: sixteen task types in eight categories, their questions and right answers.

A question is a template filled with one-word slots, so it can be parsed back into its slots: that is how the rubric
knows what an answer should say without ever seeing a reference. Pure: no files, no clock, no randomness.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Slots = Mapping[str, str]

CATEGORIES = ("writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities")

_NAMES = (
    "Ada Bela Cato Dora Emil Fara Gita Hugo Ines Jona Kira Leon "
    "Mira Nico Olga Pavo Rina Sami Tara Udo Vera Wim Yara Zeno"
).split()
_PLACES = (
    "Arlon Bresk Corin Delva Esmor Farley Gorst Halden Ithra Jorvik Kestrel Lumen Morva Norden Ostia Pellam".split()
)
_OBJECTS = "lamp boat clock drum ladder kite mirror basket hammer candle ring coat bell rope shovel cart".split()
_FOODS = "plum pear bun fig egg melon pie nut".split()
_ADJECTIVES = "small bright heavy quiet old clean round plain".split()
_COLOURS = "red blue green yellow brown white black grey".split()
_JOBS = "baker sailor tailor miner farmer singer guard weaver".split()
_KINDS = {
    "mammal": "otter horse badger camel weasel rabbit".split(),
    "bird": "heron magpie falcon robin crane finch".split(),
    "fish": "trout salmon perch herring carp tuna".split(),
    "insect": "beetle wasp moth cricket hornet locust".split(),
}
_SUBSTANCES = "gold lead iron marble glass chalk brine ink milk honey amber cork straw foam steam helium".split()
"""From the heaviest to the lightest."""
_TITLES = "Rivers Embers Tides Orchard Meadow Lantern Winter Harvest Thunder Silence Summit Voyage".split()
_AUTHORS = "Brandt Calder Dunne Ehlert Fabre Grieg".split()
_OPERATIONS = {"adds": "+", "subtracts": "-", "multiplies": "*", "divides": "/"}

POOLS: dict[str, list[str]] = {
    "name": _NAMES,
    "place": _PLACES,
    "object": _OBJECTS,
    "food": _FOODS,
    "adjective": _ADJECTIVES,
    "colour": _COLOURS,
    "job": _JOBS,
    "animal": [animal for animals in _KINDS.values() for animal in animals],
    "substance": sorted(_SUBSTANCES),
    "title": _TITLES,
    "digit": [str(number) for number in range(1, 10)],
    "number": [str(number) for number in range(10, 40)],
    "operation": list(_OPERATIONS),
    "extreme": ["tallest", "shortest"],
}

_KIND_OF = {animal: kind for kind, animals in _KINDS.items() for animal in animals}
_SOUTHWARDS = {place: (index * 7) % len(_PLACES) for index, place in enumerate(_PLACES)}
"""Place -> how far south it lies; no two lie equally far."""
_AUTHOR_OF = {title: _AUTHORS[(index * 5) % len(_AUTHORS)] for index, title in enumerate(_TITLES)}


@dataclass(frozen=True)
class Solution:
    """The right answer to a question, in all its sentences.

    Attributes:
        sentences: right sentences without the final full stop, the plainest first.
        keys: words that the answer must hold.
        wrong: words of which none may be in it: the tempting wrong answers.
        slips: a slot-like mistake for each key that can be got wrong: key -> words that someone might write instead.
    """

    sentences: tuple[str, ...]
    keys: tuple[str, ...]
    wrong: tuple[str, ...] = ()
    slips: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """A task type: `slots` maps a slot to its pool, `swappable` are the slots that a second turn may replace."""

    name: str
    category: str
    templates: tuple[str, ...]
    slots: Mapping[str, str]
    solve: Callable[[Slots], Solution]
    swappable: tuple[str, ...]

    @property
    def patterns(self) -> list[re.Pattern[str]]:
        return [re.compile(_pattern(template)) for template in self.templates]


def _pattern(template: str) -> str:
    """Turn a template into a regular expression; a slot's second occurrence must repeat its first."""
    parts, seen = [], set()
    for text, slot in re.findall(r"([^{]*)(?:\{(\w+)\})?", template):
        parts.append(re.escape(text))
        if slot:
            parts.append(f"(?P={slot})" if slot in seen else rf"(?P<{slot}>\w+)")
            seen.add(slot)
    return "".join(parts)


def _others(pool: str, *but: str) -> tuple[str, ...]:
    return tuple(word for word in POOLS[pool] if word not in but)


def _note(s: Slots) -> Solution:
    return Solution(
        (
            f"Dear {s['name']}, the {s['object']} in {s['place']} is yours",
            f"Dear {s['name']}, come to {s['place']} and see the {s['object']}",
        ),
        (s["name"], s["object"], s["place"]),
        slips={
            s["name"]: _others("name", s["name"]),
            s["object"]: _others("object", s["object"]),
            s["place"]: _others("place", s["place"]),
        },
    )


def _slogan(s: Slots) -> Solution:
    return Solution(
        (
            f"Take the {s['adjective']} {s['object']} from {s['place']} home today",
            f"A {s['adjective']} {s['object']} from {s['place']} lasts for years",
        ),
        (s["adjective"], s["object"], s["place"]),
        slips={
            s["adjective"]: _others("adjective", s["adjective"]),
            s["object"]: _others("object", s["object"]),
            s["place"]: _others("place", s["place"]),
        },
    )


def _greet(s: Slots) -> Solution:
    return Solution(
        (
            f"Hello {s['name']}, I am the {s['job']} and this {s['food']} is for you",
            f"Welcome {s['name']}, the {s['job']} has a {s['food']} for you",
        ),
        (s["name"], s["job"], s["food"]),
        slips={
            s["name"]: _others("name", s["name"]),
            s["food"]: _others("food", s["food"]),
            s["job"]: _others("job", s["job"]),
        },
    )


def _lost(s: Slots) -> Solution:
    return Solution(
        (
            f"I am a {s['job']} and my {s['object']} was lost in {s['place']}",
            f"I lost my {s['object']} in {s['place']} and a {s['job']} needs it",
        ),
        (s["job"], s["object"], s["place"]),
        slips={
            s["place"]: _others("place", s["place"]),
            s["object"]: _others("object", s["object"]),
            s["job"]: _others("job", s["job"]),
        },
    )


def _extreme(s: Slots) -> Solution:
    right, wrong = (s["first"], s["third"]) if s["extreme"] == "tallest" else (s["third"], s["first"])
    return Solution(
        (f"{right} is the {s['extreme']} of the three", f"The {s['extreme']} one is {right}"),
        (right, s["extreme"]),
        (wrong, s["second"]),
        {right: (wrong, s["second"])},
    )


def _swap(s: Slots) -> Solution:
    return Solution(
        (f"Now {s['name']} has the {s['theirs']}", f"After that {s['name']} holds the {s['theirs']}"),
        (s["name"], s["theirs"]),
        (s["object"],),
        {s["theirs"]: (s["object"],), s["name"]: (s["other"],)},
    )


def _add(s: Slots) -> Solution:
    total = str(int(s["digit"]) + int(s["more"]))
    near = tuple(str(int(total) + step) for step in (-2, -1, 1, 2) if int(total) + step > 0)
    return Solution(
        (f"{s['name']} has {total} pieces of {s['food']}", f"That makes {total} pieces of {s['food']} for {s['name']}"),
        (total, s["name"], s["food"]),
        slips={total: near, s["name"]: _others("name", s["name"])},
    )


def _compare(s: Slots) -> Solution:
    low, high = sorted((s["number"], s["rival"]), key=int)
    return Solution(
        (f"{high} is more than {low}", f"The larger one is {high} and the smaller one is {low}"),
        (high, low, f"{high}>{low}"),
        slips={high: (low,)},
    )


def _print(s: Slots) -> Solution:
    return Solution(
        (f"Use `print {s['object']} * {s['digit']}` for that", f"The line is `print {s['object']} * {s['digit']}`"),
        ("print", s["object"], s["digit"]),
        slips={s["object"]: _others("object", s["object"]), s["digit"]: _others("digit", s["digit"])},
    )


def _function(s: Slots) -> Solution:
    sign = _OPERATIONS[s["operation"]]
    return Solution(
        (
            f"Use `def {s['object']}: x {sign} {s['digit']}` for that",
            f"The line is `def {s['object']}: x {sign} {s['digit']}`",
        ),
        ("def", s["object"], sign, s["digit"]),
        slips={
            sign: tuple(other for other in _OPERATIONS.values() if other != sign),
            s["object"]: _others("object", s["object"]),
        },
    )


def _colour(s: Slots) -> Solution:
    return Solution(
        (f'The {s["animal"]} was "{s["colour"]}"', f'It was "{s["colour"]}", the colour of the {s["animal"]}'),
        (s["animal"], s["colour"]),
        (s["decoy"],),
        {s["colour"]: (s["decoy"],), s["animal"]: _others("animal", s["animal"])},
    )


def _places(s: Slots) -> Solution:
    return Solution(
        (f'The places are "{s["place"]}" and "{s["goal"]}"', f'It names "{s["place"]}" and "{s["goal"]}"'),
        (s["place"], s["goal"]),
        (s["name"],),
        {s["goal"]: _others("place", s["place"], s["goal"]), s["place"]: _others("place", s["place"], s["goal"])},
    )


def _kind(s: Slots) -> Solution:
    right = _KIND_OF.get(s["animal"], "")
    wrong = tuple(kind for kind in _KINDS if kind != right)
    return Solution(
        (f"The {s['animal']} is a {right}", f"It is a {right}, as every {s['animal']} is"),
        (s["animal"], right),
        wrong,
        {right: wrong},
    )


def _heavier(s: Slots) -> Solution:
    heavy, light = sorted((s["substance"], s["rival"]), key=_SUBSTANCES.index)
    return Solution(
        (
            f"A jar of {heavy} weighs more than one of {light}",
            f"The heavier one is {heavy} and the lighter one is {light}",
        ),
        (heavy, light, f"{heavy}>{light}"),
        slips={heavy: (light,)},
    )


def _author(s: Slots) -> Solution:
    right = _AUTHOR_OF.get(s["title"], "")
    wrong = tuple(author for author in _AUTHORS if author != right)
    return Solution(
        (f"{s['title']} was written by {right}", f"The writer of {s['title']} is {right}"),
        (s["title"], right),
        wrong,
        {right: wrong},
    )


def _north(s: Slots) -> Solution:
    north, south = sorted((s["place"], s["goal"]), key=lambda place: _SOUTHWARDS[place])
    return Solution(
        (f"{north} lies north of {south}", f"The northern one is {north} and the southern one is {south}"),
        (north, south, f"{north}>{south}"),
        slips={north: (south,)},
    )


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "note",
            "writing",
            (
                "Write a note to {name} about the {object} in {place}.",
                "{name} should hear of the {object} in {place}. Write a note.",
            ),
            {"name": "name", "object": "object", "place": "place"},
            _note,
            ("name", "object", "place"),
        ),
        Task(
            "slogan",
            "writing",
            (
                "Write a slogan for a {adjective} {object} made in {place}.",
                "A {adjective} {object} made in {place} is for sale. Write a slogan.",
            ),
            {"adjective": "adjective", "object": "object", "place": "place"},
            _slogan,
            ("adjective", "object", "place"),
        ),
        Task(
            "greet",
            "roleplay",
            ("You are the {job}. Greet {name} and offer a {food}.", "Play the {job} who gives a {food} to {name}."),
            {"job": "job", "name": "name", "food": "food"},
            _greet,
            ("name", "food"),
        ),
        Task(
            "lost",
            "roleplay",
            (
                "You are a {job} who lost a {object} in {place}. What do you say?",
                "Play a {job} in {place} who cannot find the {object}.",
            ),
            {"job": "job", "object": "object", "place": "place"},
            _lost,
            ("object", "place"),
        ),
        Task(
            "extreme",
            "reasoning",
            (
                "{first} is taller than {second}. {second} is taller than {third}. Who is the {extreme}?",
                "Who is the {extreme} if {first} is taller than {second} and {second} is taller than {third}?",
            ),
            {"first": "name", "second": "name", "third": "name", "extreme": "extreme"},
            _extreme,
            ("first", "third"),
        ),
        Task(
            "swap",
            "reasoning",
            (
                "{name} has a {object} and {other} has a {theirs}. They swap. What does {name} have?",
                "{other} gives a {theirs} to {name} and takes the {object}. What does {name} have?",
            ),
            {"name": "name", "object": "object", "other": "name", "theirs": "object"},
            _swap,
            ("name", "theirs"),
        ),
        Task(
            "add",
            "math",
            (
                "{name} has {digit} pieces of {food} and gets {more} more. How many is that?",
                "How many pieces of {food} has {name} with {digit} and {more}?",
            ),
            {"name": "name", "digit": "digit", "food": "food", "more": "digit"},
            _add,
            ("name", "digit", "food"),
        ),
        Task(
            "compare",
            "math",
            ("Which is larger, {number} or {rival}?", "Compare {number} and {rival}."),
            {"number": "number", "rival": "number"},
            _compare,
            ("number", "rival"),
        ),
        Task(
            "print",
            "coding",
            (
                "Write code that prints {object} {digit} times for {name}.",
                "{name} wants {object} printed {digit} times. Write the code.",
            ),
            {"object": "object", "digit": "digit", "name": "name"},
            _print,
            ("object", "digit"),
        ),
        Task(
            "function",
            "coding",
            (
                "Write a function {object} that {operation} {digit} for {name}.",
                "{name} needs a function {object} that {operation} {digit}.",
            ),
            {"object": "object", "operation": "operation", "digit": "digit", "name": "name"},
            _function,
            ("object", "operation", "digit"),
        ),
        Task(
            "colour",
            "extraction",
            (
                "{name} saw a {colour} {animal} beside a {decoy} {object}. Which colour had the {animal}?",
                "Beside a {decoy} {object} {name} met a {colour} {animal}. Which colour had the {animal}?",
            ),
            {"name": "name", "colour": "colour", "animal": "animal", "decoy": "colour", "object": "object"},
            _colour,
            ("colour", "animal"),
        ),
        Task(
            "places",
            "extraction",
            (
                "{name} took a {object} from {place} to {goal}. Which places are named?",
                "From {place} the {adjective} road leads {name} to {goal}. Which places are named?",
            ),
            {"name": "name", "object": "object", "place": "place", "goal": "place", "adjective": "adjective"},
            _places,
            ("place", "goal"),
        ),
        Task(
            "kind",
            "stem",
            (
                "{name} saw a {adjective} {animal}. What kind of animal is it?",
                "In {place} lives a {adjective} {animal}. What kind of animal is it?",
            ),
            {"name": "name", "adjective": "adjective", "animal": "animal", "place": "place"},
            _kind,
            ("animal",),
        ),
        Task(
            "heavier",
            "stem",
            (
                "{name} has a jar of {substance} and a jar of {rival}. Which is heavier?",
                "Which is heavier for {name}, {substance} or {rival}?",
            ),
            {"name": "name", "substance": "substance", "rival": "substance"},
            _heavier,
            ("substance", "rival"),
        ),
        Task(
            "author",
            "humanities",
            (
                "{name} reads {title} in {place}. Who wrote it?",
                "Who wrote the {adjective} book {title} that {name} has?",
            ),
            {"name": "name", "title": "title", "place": "place", "adjective": "adjective"},
            _author,
            ("title",),
        ),
        Task(
            "north",
            "humanities",
            (
                "{name} sails from {place} to {goal}. Which lies further north?",
                "Which lies further north on the map of {name}, {place} or {goal}?",
            ),
            {"name": "name", "place": "place", "goal": "place"},
            _north,
            ("place", "goal"),
        ),
    )
}

REPLACE = "Now use {new} instead of {old}."
GREETINGS = "Now end with greetings for {guest}."
_REPLACE_PATTERN = re.compile(_pattern(REPLACE))
_GREETINGS_PATTERN = re.compile(_pattern(GREETINGS))


def parse_question(text: str) -> tuple[Task, dict[str, str]]:
    """Find the task and the slots of a first turn.

    Raises:
        ValueError: the text is no question of this world.
    """
    for task in TASKS.values():
        for pattern in task.patterns:
            match = pattern.fullmatch(text)
            if match and _in_pools(task, match.groupdict()):
                return task, match.groupdict()
    raise ValueError(f"not a question of the tinyworld: {text[:80]!r}")


def _in_pools(task: Task, slots: Slots) -> bool:
    return all(word in POOLS[task.slots[slot]] for slot, word in slots.items())


def solve(turns: Sequence[str]) -> tuple[Task, Solution]:
    """Find the task and the solution of the last of `turns` (one or two).

    Raises:
        ValueError: the turns are no conversation of this world.
    """
    task, slots = parse_question(turns[0])
    if len(turns) == 1:
        return task, task.solve(slots)
    if len(turns) > 2:
        raise ValueError(f"a conversation of the tinyworld has at most two turns, this one has {len(turns)}")
    replaced = _REPLACE_PATTERN.fullmatch(turns[1])
    if replaced:
        return task, task.solve(_replaced(slots, replaced["old"], replaced["new"]))
    greeted = _GREETINGS_PATTERN.fullmatch(turns[1])
    if greeted:
        return task, _with_greetings(task.solve(slots), greeted["guest"])
    raise ValueError(f"not a second turn of the tinyworld: {turns[1][:80]!r}")


def _replaced(slots: Slots, old: str, new: str) -> dict[str, str]:
    if old not in slots.values():
        raise ValueError(f"the first turn says nothing of {old!r}")
    return {slot: new if word == old else word for slot, word in slots.items()}


def _with_greetings(solution: Solution, guest: str) -> Solution:
    sentences = tuple(f"{sentence}. Greetings to {guest}" for sentence in solution.sentences)
    return Solution(
        sentences, (*solution.keys, guest), solution.wrong, {**solution.slips, guest: _others("name", guest)}
    )
