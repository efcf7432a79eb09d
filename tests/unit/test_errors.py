"""Exit statuses are a contract, and messages name what is known."""

from __future__ import annotations

import pytest

from seft_bench import errors


def test_exit_statuses_are_those_of_the_documentation() -> None:
    names = ("OK", "CRASH", "USAGE", "REGRESSED", "INCONCLUSIVE", "WITHHELD", "UNAVAILABLE")
    assert [getattr(errors, f"EXIT_{name}") for name in names] == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(("kind", "status"), [(errors.InputError, 2), (errors.WithheldError, 5), (errors.JudgeUnavailableError, 6)])
def test_every_error_has_its_status(kind: type[errors.SeftBenchError], status: int) -> None:
    assert kind("x").exit_status == status
    assert issubclass(kind, errors.SeftBenchError)


def test_unknown_names_list_the_known_ones_in_order() -> None:
    assert str(errors.unknown_name("suite", "mt", ["b", "a"])) == "unknown suite 'mt': known are a, b"
    assert str(errors.unknown_name("suite", "mt", [], "Write one.")) == "unknown suite 'mt': known are none. Write one."
