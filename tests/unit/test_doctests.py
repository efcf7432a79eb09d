"""Examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def modules_with_examples() -> list[str]:
    sources = [path for folder in ("seft_bench", "training") for path in (REPOSITORY / folder).rglob("*.py")]
    found = [path.relative_to(REPOSITORY).with_suffix("") for path in sources if ">>> " in path.read_text("utf-8")]
    return sorted(".".join(path.parts).removesuffix(".__init__") for path in found)


def test_every_example_of_a_docstring_holds() -> None:
    modules = modules_with_examples()
    assert modules
    failed = {name: doctest.testmod(importlib.import_module(name)).failed for name in modules}
    assert not {name: count for name, count in failed.items() if count}
