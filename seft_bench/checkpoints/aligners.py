"""Aligners: a policy and a reviser that corrects its answers, told together by one small file, aligner.json.

    {"policy": "policy", "reviser": "../my-reviser", "instruction": "Please revise the answer.", "decision": "always"}

A model is named by its folder (from the file's own, or absolute) or by its hub id. See docs/evaluate-your-model.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from seft_bench.checkpoints import ALIGNER, fetch_from_hub, fingerprint, is_aligner, is_checkpoint
from seft_bench.errors import InputError
from seft_bench.files import read_json, sha256_json, write_json
from seft_bench.records import Row

Decision = Literal["always", "likelihood", "margin", "token"]
"""Who decides to revise: nobody, the reviser's likelihoods against a threshold, or the label that a decider emits."""

Statistic = Literal["keep", "mode"]

ALLOWED: Mapping[str, tuple[str, ...]] = {
    "decision": ("always", "likelihood", "margin", "token"),
    "statistic": ("keep", "mode"),
}


@dataclass(frozen=True)
class Revision:
    """How an aligner revises.

    Attributes:
        instruction: what the reviser is told behind the draft.
        statistic: of a draft, where likelihoods decide.
        threshold: drafts whose statistic reaches it are kept; None where every draft is revised.
        temperature: of revisions; 0 is greedy.
        max_new_tokens: of a revision; None: the suite's limit.
    """

    instruction: str
    decision: Decision = "always"
    statistic: Statistic = "mode"
    threshold: float | None = None
    temperature: float = 0.0
    max_new_tokens: int | None = None

    def as_row(self) -> Row:
        """Return what the file says, and what answers hang on: keys that say nothing are left out."""
        decided = {"statistic": self.statistic, "threshold": self.threshold} if self.decision != "always" else {}
        drawn = {"temperature": self.temperature} if self.temperature else {}
        limit = {"max_new_tokens": self.max_new_tokens} if self.max_new_tokens else {}
        return {"instruction": self.instruction, "decision": self.decision, **decided, **drawn, **limit}


@dataclass(frozen=True)
class Aligner:
    """A reviser over a policy, as folders on this machine.

    Attributes:
        decider: emits labels, where these decide.
    """

    policy: Path
    reviser: Path
    revision: Revision
    decider: Path | None = None

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides the answers."""
        return aligner_fingerprint(fingerprint(self.policy), self)


def aligner_fingerprint(policy: str, aligner: Aligner) -> str:
    """Hash a policy, by its own fingerprint, with the rest of an aligner."""
    decider = [fingerprint(aligner.decider)] if aligner.decider else []
    return sha256_json([policy, fingerprint(aligner.reviser), aligner.revision.as_row(), *decider])


def write_aligner(folder: Path, models: Mapping[str, str], revision: Revision) -> None:
    """Write the file.

    Args:
        models: "policy", "reviser" and, where there is one, "decider" -> where it lies, from `folder`.
    """
    write_json(folder / ALIGNER, {**models, **revision.as_row()})


def read_aligner(place: Path) -> Aligner:
    """Read an aligner from its file or its folder.

    Raises:
        InputError: a model is not there, or a key or value is wrong.
    """
    path = place / ALIGNER if place.is_dir() else place
    row = read_json(path, "description of an aligner")
    revision = _revision(row, path)
    decider = _model("decider", row, path) if revision.decision == "token" else None
    return Aligner(_model("policy", row, path), _model("reviser", row, path), revision, decider)


_KEYS: Mapping[str, tuple[type, ...]] = {
    "policy": (str,),
    "reviser": (str,),
    "decider": (str,),
    "instruction": (str,),
    "decision": (str,),
    "statistic": (str,),
    "threshold": (int, float),
    "temperature": (int, float),
    "max_new_tokens": (int,),
}


_IN_WORDS: Mapping[tuple[type, ...], str] = {(str,): "text", (int, float): "number", (int,): "whole number"}


def _revision(row: Any, path: Path) -> Revision:
    if not isinstance(row, dict):
        raise InputError(f"{path}: an aligner is a JSON object with {', '.join(_KEYS)}")
    for key, value in row.items():
        _check(key, value, path)
    decision = cast("Decision", row.get("decision", "always"))
    needed = ["policy", "reviser", "instruction"]
    needed += {"always": [], "token": ["threshold", "decider"]}.get(decision, ["threshold"])
    if missing := [key for key in needed if key not in row]:
        raise InputError(f"{path}: {', '.join(missing)} is missing (decision: {decision})")
    given = {key: value for key, value in row.items() if key not in ("policy", "reviser", "decider")}
    return Revision(**given)


def _check(key: str, value: Any, path: Path) -> None:
    """Refuse a key that an aligner does not have, or a value that it cannot have."""
    if key not in _KEYS:
        raise InputError(f"{path}: {key}: unknown key; allowed are {', '.join(_KEYS)}")
    kinds = _KEYS[key]
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise InputError(f"{path}: {key}: {value!r} is no {_IN_WORDS[kinds]}")
    if key in ALLOWED and value not in ALLOWED[key]:
        raise InputError(f"{path}: {key}: {value!r}; allowed are {', '.join(ALLOWED[key])}")
    least = {"temperature": 0.0, "max_new_tokens": 1.0}.get(key, -math.inf)
    if value == "" or (isinstance(value, int | float) and not (math.isfinite(value) and value >= least)):
        raise InputError(f"{path}: {key}: {value!r} is too little, or nothing")


def _model(role: str, row: Row, path: Path) -> Path:
    name = str(row[role])
    folder = path.parent / name  # an absolute name stays what it is
    if is_aligner(folder):
        raise InputError(f"{path}: {role}: {folder} is an aligner itself, and a model is needed")
    if is_checkpoint(folder):
        return folder
    if name.startswith((".", "/")) or folder.exists() or name.count("/") != 1:
        raise InputError(f"{path}: {role}: no model in {folder}: name a checkpoint's folder, or a hub id")
    return fetch_from_hub(name, f"{role} of {path}")
