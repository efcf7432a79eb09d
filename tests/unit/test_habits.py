"""Habits that several files must agree on: versions of the linter, what hosted checks run, the changelog's version."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

import seft_bench

REPOSITORY = Path(__file__).resolve().parents[2]


def pinned(package: str) -> str:
    [version] = re.findall(rf"^{package}==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    return str(version)


def test_the_hooks_lint_with_the_pinned_ruff() -> None:
    hooks = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    required = {name for hook in hooks for name in hook.get("additional_dependencies", [])}
    assert {name for name in required if name.startswith("ruff")} == {f"ruff=={pinned('ruff')}"}
    assert all("==" in name for name in required)


def test_hosted_checks_run_the_makefiles_targets_on_every_supported_python() -> None:
    job = yaml.safe_load((REPOSITORY / ".github/workflows/tests.yml").read_text())["jobs"]["test"]
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    ran = {word for step in job["steps"] for word in re.findall(r"\bmake ([\w-]+)", step.get("run", ""))}
    assert {"lint", "test", "demo"} <= ran <= targets
    oldest = re.search(r'requires-python = ">=([\d.]+)"', (REPOSITORY / "pyproject.toml").read_text())
    assert oldest is not None
    assert job["strategy"]["matrix"]["python"][0] == oldest[1]


def test_the_changelog_has_the_version_with_its_day() -> None:
    heads = re.findall(r"^## (.*)$", (REPOSITORY / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heads[0] == "Unreleased"
    assert re.fullmatch(rf"{re.escape(seft_bench.__version__)} - \d{{4}}-\d\d-\d\d", heads[1])
