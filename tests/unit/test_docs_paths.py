"""Paths and modules that docs, docstrings and comments name exist: a move that forgets one is seen here."""

from __future__ import annotations

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
TOP = ("seft_bench", "training", "tests", "benchmarks", "docs", "eval_configs", "results")
PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / "benchmarks").glob("*.md")]
)
SOURCES = sorted(path for folder in ("seft_bench", "training") for path in (REPOSITORY / folder).rglob("*.py"))

PATH = re.compile(rf"\b((?:{'|'.join(TOP)})/[\w./-]*[\w/])")
"""A path from the top of the repository."""
CODE = re.compile(r"`([\w./]+\.(?:py|yaml))`")
"""A file in backticks, perhaps named from inside its package (`judges/base.py`)."""
MODULE = re.compile(r"\b((?:seft_bench|training)(?:\.(?!md\b)[a-z_]\w*)+)\b")
"""A dotted module, perhaps with a name that it defines behind it; docs/training.md is none."""
MADE_LATER = re.compile(r"results/(?!README|tinyworld)|eval_configs/(?:suites|judges)/(?:my|own)")
"""Paths that a command of the user's makes, as `results/leaderboard.md`."""


OF_THE_OFFICIAL_TOOLS = ("alpaca_eval/", "metrics/", "annotators/", "llm_judge/")
"""Folders of alpaca_eval and FastChat, which docstrings cite."""
IN_THE_WHEEL = ("seft_bench/_", "seft_bench._")
"""The wheel's own places of `training` and `eval_configs`."""


def is_there(path: str) -> bool:
    if path.startswith(IN_THE_WHEEL) or MADE_LATER.match(path):
        return True
    return (REPOSITORY / path).exists() or (REPOSITORY / f"{path}.py").exists()


def is_in_a_package(name: str) -> bool:
    if name.startswith(OF_THE_OFFICIAL_TOOLS):
        return True
    roots = [REPOSITORY, REPOSITORY / "seft_bench", REPOSITORY / "training", REPOSITORY / "tests"]
    if any((root / name).exists() for root in roots):
        return True
    return "/" not in name and any(REPOSITORY.glob(f"*/**/{name}"))


def is_a_module(name: str) -> bool:
    """Return whether some beginning of two or more parts is a module, and what follows is at most two names of it."""
    if name.startswith(IN_THE_WHEEL):
        return True
    parts = name.split(".")
    for length in range(len(parts), 1, -1):
        path = REPOSITORY.joinpath(*parts[:length])
        if path.with_suffix(".py").exists() or (path / "__init__.py").exists():
            return len(parts) - length <= 2
    return False


def named_in(path: Path) -> list[str]:
    """Every name in a file that leads nowhere."""
    text = path.read_text(encoding="utf-8")
    wrong = [name for name in PATH.findall(text) if not is_there(name.rstrip("/."))]
    wrong += [name for name in CODE.findall(text) if not is_in_a_package(name)]
    wrong += [name for name in MODULE.findall(text) if not is_a_module(name)]
    return [f"{path.relative_to(REPOSITORY)}: {name}" for name in dict.fromkeys(wrong)]


def test_a_name_that_leads_nowhere_is_seen(tmp_path: Path) -> None:
    assert not is_there("seft_bench/store.py")
    assert is_there("seft_bench/inference/store.py")
    assert not is_a_module("seft_bench.money.prices")
    assert is_a_module("seft_bench.inference.prices.price_of")
    assert not is_in_a_package("judges/client.py")
    assert is_in_a_package("judges/base.py")


def test_paths_in_docs_exist() -> None:
    assert [line for page in PAGES for line in named_in(page)] == []


def test_paths_in_the_code_exist() -> None:
    assert [line for source in SOURCES for line in named_in(source)] == []
