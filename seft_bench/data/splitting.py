"""One set of prompts for several roles: which prompt is whose. Pure.

A prompt's place follows from its text alone, so neither the order of the rows nor how many there are moves it, and the
same prompt in two rows is on one side.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence

from seft_bench.config import ROLES, Role
from seft_bench.records import Message

_SALT = "seft-bench/parts of a data set/1"


def prompt_place(prompt: Sequence[Message]) -> float:
    """Map a prompt to [0, 1), evenly over prompts; case, white space and forms of letters make no difference."""
    said = [f"{message['role']}: {_normalised(message['content'])}" for message in prompt]
    digest = hashlib.sha256("\n".join([_SALT, *said]).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def shares(base: Role, taken: Mapping[Role, float]) -> dict[Role, tuple[float, float]]:
    """Lay out whose prompts lie where in [0, 1): the roles that take some one after the other, the rest the base's own.

    >>> shares("preferences", {"calibration": 0.25, "prompts": 0.5})
    {'calibration': (0.0, 0.25), 'prompts': (0.25, 0.75), 'preferences': (0.75, 1.0)}
    """
    laid: dict[Role, tuple[float, float]] = {}
    start = 0.0
    for role in ROLES:
        if role in taken:
            laid[role] = (start, start + taken[role])
            start += taken[role]
    return {**laid, base: (start, 1.0)}
