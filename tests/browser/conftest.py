"""One browser and two reports for all tests of the page; skipped, saying so, where there is no chromium."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser import browser
from tests.browser.reports import Reported, evaluated, of_a_matrix


@pytest.fixture(scope="session")
def tab() -> Iterator[browser.Page]:
    program = browser.program()
    if program is None:
        pytest.skip(f"CHROMIUM ABSENT: none of {', '.join(browser.PROGRAMS)} is on the path")
    with browser.started(program) as page:
        yield page


@pytest.fixture
def page(tab: browser.Page) -> browser.Page:
    """The tab as a new visitor has it: light, wide."""
    tab.prefer("light")
    tab.size(1400, 900)
    return tab


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    return evaluated(tmp_path_factory.mktemp("evaluated"))


@pytest.fixture(scope="session")
def matrix_report(tmp_path_factory: pytest.TempPathFactory) -> Reported:
    return of_a_matrix(tmp_path_factory.mktemp("matrix"))
