"""Suites: one file a protocol, one YAML a suite.

A suite says what is asked, what is judged, and what the figures are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from seft_bench import config
from seft_bench.config import SuiteConfig
from seft_bench.errors import InputError
from seft_bench.suites.base import Suite

__all__ = ["SUITES", "Suite", "load_suite", "load_suites", "open_suite"]


# A loader a protocol: its module is imported when a suite of it is opened, and its class is checked for `Suite`.


def _alpacaeval(settings: SuiteConfig) -> Suite:
    from seft_bench.suites.alpacaeval import AlpacaEval

    return AlpacaEval(settings)


def _mtbench(settings: SuiteConfig) -> Suite:
    from seft_bench.suites.mtbench import MTBench

    return MTBench(settings)


def _mtbench_pairwise(settings: SuiteConfig) -> Suite:
    from seft_bench.suites.mtbench_pairwise import PairwiseMTBench

    return PairwiseMTBench(settings)


SUITES: dict[str, Callable[[SuiteConfig], Suite]] = {
    "alpacaeval": _alpacaeval,
    "mtbench": _mtbench,
    "mtbench-pairwise": _mtbench_pairwise,
}
"""Protocol of a suite (`SuiteConfig.protocol`) -> its loader.

A new protocol is one file and one loader here (docs/add-a-suite.md); a new suite over one of these is YAML only.
"""


def load_suites(names: Iterable[str], length_control: Mapping[str, str | None]) -> list[Suite]:
    """Load suites by their names, each once.

    Args:
        length_control: settings of the length control ("lc_c", "lc_interval"); those that are not None go to the suites
            that have one.

    Raises:
        InputError: as `load_suite`, or such settings where no suite has use for them.
    """
    overrides = [f"{key}={value}" for key, value in length_control.items() if value is not None]
    names = list(dict.fromkeys(names))
    suites = [load_suite(name) for name in names]
    if overrides and not any(_controls_length(suite.config) for suite in suites):
        flags = " and ".join(f"--{override.partition('=')[0].replace('_', '-')}" for override in overrides)
        asked = ", ".join(suite.config.name for suite in suites)
        raise InputError(
            f"{flags}: only suites of kind alpacaeval have a length control, own ones with a `difficulty` other than "
            f"none; asked for: {asked}"
        )
    return [
        _overridden(name, overrides) if overrides and _controls_length(suite.config) else suite
        for name, suite in zip(names, suites, strict=True)
    ]


def _controls_length(settings: config.SuiteConfig) -> bool:
    return settings.kind == "alpacaeval" and not (settings.source == "files" and settings.difficulty == "none")


def _overridden(name: str, overrides: Sequence[str]) -> Suite:
    """Load a suite with overrides; as it is sound without them, an error is reported under the option's name."""
    try:
        return load_suite(name, overrides)
    except InputError as error:
        wrong = [line.strip() for line in str(error).splitlines()[1:]]
        raise InputError("; ".join(f"--{line.replace('_', '-', 1)}" for line in wrong)) from None


def load_suite(name: str, overrides: Iterable[str] = ()) -> Suite:
    """Load a shipped suite by its name, or one of the user's by its file, NAME.yaml.

    Args:
        overrides: "key=value", as in YAML, instead of what the file says.

    Raises:
        InputError: unknown name, or a YAML file with errors.
    """
    return open_suite(config.load_suite(name, overrides))


def open_suite(settings: SuiteConfig) -> Suite:
    """Open the suite of a config."""
    return SUITES[settings.protocol](settings)
