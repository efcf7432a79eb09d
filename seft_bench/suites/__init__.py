"""Suites: one file a protocol, one YAML a suite.

A suite says what is asked, what is judged, and what the figures are.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from seft_bench import config
from seft_bench.config import SuiteConfig
from seft_bench.errors import InputError
from seft_bench.suites.base import Suite

__all__ = ["SUITES", "Suite", "load_suite", "load_suites", "open_suite"]

SUITES = {
    "alpacaeval": "seft_bench.suites.alpacaeval:AlpacaEval",
    "mtbench": "seft_bench.suites.mtbench:MTBench",
    "mtbench-pairwise": "seft_bench.suites.mtbench_pairwise:PairwiseMTBench",
}
"""Protocol of a suite (`SuiteConfig.protocol`) -> its class.

A new protocol is one file and one line here; a new suite over one of these is YAML only.
"""


def load_suites(names: Iterable[str], length_control: Mapping[str, str | None]) -> list[Suite]:
    """Suites by their names, each once; settings of the length control ("lc_c", "lc_interval") that are not None go to
    those that have one.

    Raises:
        InputError: as `load_suite`, or such settings where no suite has use for them.
    """
    overrides = [f"{key}={value}" for key, value in length_control.items() if value is not None]
    suites = [load_suite(name) for name in dict.fromkeys(names)]
    if overrides and not any(_controls_length(suite.config) for suite in suites):
        flags = " and ".join(f"--{override.partition('=')[0].replace('_', '-')}" for override in overrides)
        asked = ", ".join(suite.config.name for suite in suites)
        raise InputError(
            f"{flags}: only suites of kind alpacaeval have a length control, own ones with a `difficulty` other than "
            f"none; asked for: {asked}"
        )
    names = list(dict.fromkeys(names))
    return [
        _overridden(name, overrides) if overrides and _controls_length(suite.config) else suite
        for name, suite in zip(names, suites, strict=True)
    ]


def _controls_length(settings: config.SuiteConfig) -> bool:
    return settings.kind == "alpacaeval" and not (settings.source == "files" and settings.difficulty == "none")


def _overridden(name: str, overrides: Sequence[str]) -> Suite:
    """The suite is sound without them, so what is wrong is an option's, and is said under its name."""
    try:
        return load_suite(name, overrides)
    except InputError as error:
        wrong = [line.strip() for line in str(error).splitlines()[1:]]
        raise InputError("; ".join(f"--{line.replace('_', '-', 1)}" for line in wrong)) from None


def load_suite(name: str, overrides: Iterable[str] = ()) -> Suite:
    """A shipped suite by its name, or one of the user's by its file, NAME.yaml.

    Args:
        overrides: "key=value", as in YAML, instead of what the file says.

    Raises:
        InputError: unknown name, or a YAML file with errors.
    """
    return open_suite(config.load_suite(name, overrides))


def open_suite(settings: SuiteConfig) -> Suite:
    """The suite of a config."""
    module, _, attribute = SUITES[settings.protocol].partition(":")
    return cast(Suite, getattr(importlib.import_module(module), attribute)(settings))
