"""What each role reads: the shapes that serve it, and its rows out of rows of another kind. Pure."""

from __future__ import annotations

from collections.abc import Callable

from seft_bench.config import Role
from seft_bench.data.conversations import ShapeError, checked_prompt, shown
from seft_bench.data.shapes import SHAPES, Kind, kind_of
from seft_bench.records import Message, Row

_EVERY_PROMPT = ("preference", "nectar", "messages", "sharegpt", "alpaca", "unpaired", "prompt-completion", "prompts")

RECOGNISED: dict[Role, tuple[str, ...]] = {
    "sft": ("messages", "sharegpt", "alpaca", "prompt-completion"),
    "preferences": ("preference", "nectar"),
    "calibration": ("preference", "nectar"),
    "unpaired": ("unpaired", "preference", "nectar"),
    "prompts": _EVERY_PROMPT,
    "pretrain": ("text",),
}
"""Role -> names of the shapes that are looked for, in this order, where the user names none."""


def recognise(row: Row, role: Role) -> str:
    """Name the shape of a row that is to serve a role.

    Raises:
        ShapeError: none fits; the message says what the row has, and what would fit.
    """
    for name in RECOGNISED[role]:
        if SHAPES[name].recognises(row):
            return name
    found = ", ".join(f"{column} ({shown(value).split(' ')[0]})" for column, value in row.items()) or "no columns"
    wanted = "; ".join(f"{name}: {', '.join(SHAPES[name].columns)}" for name in RECOGNISED[role])
    raise ShapeError(
        f"no known shape of {role}: the row has {found}. Shapes and their columns: {wanted.replace('|', ' or ')}. "
        "`columns` says what a column is called in your data, `shape` names a shape."
    )


def _pair_as_answers(row: Row) -> list[Row]:
    return [
        {"prompt": row["prompt"], "answer": row["chosen"], "label": True},
        {"prompt": row["prompt"], "answer": row["rejected"], "label": False},
    ]


def _prompt_only(row: Row) -> list[Row]:
    return [{"prompt": prompt_in(row)}]


def _same(row: Row) -> list[Row]:
    return [row]


_DERIVED: dict[tuple[Kind, Role], Callable[[Row], list[Row]]] = {
    ("pairs", "preferences"): _same,
    ("pairs", "calibration"): _same,
    ("pairs", "unpaired"): _pair_as_answers,
    ("pairs", "sft"): lambda row: [{"prompt": row["prompt"], "answer": row["chosen"]}],
    ("pairs", "prompts"): _prompt_only,
    ("answers", "sft"): _same,
    ("answers", "prompts"): _prompt_only,
    ("messages", "sft"): _same,
    ("messages", "prompts"): _prompt_only,
    ("unpaired", "unpaired"): _same,
    ("unpaired", "prompts"): _prompt_only,
    ("prompts", "prompts"): _same,
    ("text", "pretrain"): _same,
}
"""(kind of the rows, role) -> the role's rows out of one of them. What answers a prompt is left behind for prompts."""


def as_role(row: Row, role: Role) -> list[Row]:
    """Make a role's rows out of a row of ours.

    Raises:
        ShapeError: none can be made of its kind.
        LeftOutError: it has no prompt, and prompts are wanted.
    """
    kind = kind_of(row)
    if (kind, role) not in _DERIVED:
        serving = sorted({other for other, served in _DERIVED if served == role})
        raise ShapeError(f"{role} cannot be made from {kind}; they are made from {', '.join(serving)}")
    return _DERIVED[kind, role](row)


def prompt_in(row: Row) -> list[Message]:
    """Return the prompt of a row of ours; of a whole conversation, what stands before its last answer.

    Raises:
        LeftOutError: nothing of the user's stands there.
    """
    return row["prompt"] if "prompt" in row else checked_prompt(row["messages"][:-1])
