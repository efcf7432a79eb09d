"""FastChat's own show_result on pairwise judgments, real ones and our exports, against our figures for the same."""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from seft_bench.evaluation.score_files import score_files
from tests import pairwise_files
from tests.integration.cli import seft_bench

pytestmark = [pytest.mark.peers, pytest.mark.usefixtures("pairwise_files")]


def shown(path: Path, baseline: str | None) -> dict[str, list[str]]:
    """Read what show_result prints: model -> win, loss, tie, win rate, loss rate, adjusted win rate.

    Args:
        baseline: compare with this model (show_result's mode pairwise-baseline).
    """
    show_result = pytest.importorskip(
        "fastchat.llm_judge.show_result", reason="fschat is not installed (extra `official`)"
    )
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        show_result.display_result_pairwise(
            argparse.Namespace(input_file=str(path), model_list=None, baseline_model=baseline)
        )
    return {parts[0]: parts[1:] for line in printed.getvalue().splitlines() if len(parts := line.split()) == 7}


def check(theirs: Mapping[str, list[str]], ours: Mapping[str, Mapping[str, Any]]) -> None:
    assert set(theirs) == set(ours)
    for model, metrics in ours.items():
        wins, losses, ties, *_, adjusted = theirs[model]
        assert (metrics["wins"], metrics["losses"], metrics["ties"]) == (int(wins), int(losses), int(ties))
        assert metrics["win_rate"] == pytest.approx(100 * float(adjusted), abs=1e-4)  # it prints six digits


@pytest.fixture
def real(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEFT_BENCH_DATA_DIR", str(shared_data / "official"))
    path = tmp_path / "gpt-4_pair.jsonl"
    path.write_bytes(gzip.decompress((shared_data / "mt_bench" / "judgments_pair.jsonl.gz").read_bytes()))
    return path


def test_show_result_prints_our_figures(real: Path) -> None:
    ours = {result.model: result.metrics for result in score_files("mtbench-pairwise", None, real)}
    assert set(ours) == {"phi-3", "phi-3-dpo"}
    check(shown(real, None), ours)


def test_show_result_prints_our_figures_on_our_export_of_real_judgments(real: Path, tmp_path: Path) -> None:
    ours = {result.model: result.metrics for result in score_files("mtbench-pairwise", None, real)}
    seen = seft_bench(
        "export", *pairwise_files.FORMAT, "mtbench-pairwise", "--judgments", str(real), "--out", str(tmp_path / "out")
    )
    assert seen.status == 5, seen.err  # 75 of 160 comparisons
    made = tmp_path / "out" / pairwise_files.FOLDER / "gpt-4_pair.jsonl"
    check(shown(made, None), ours)
    check(shown(made, "phi-3"), {"phi-3-dpo": ours["phi-3-dpo"]})


@pytest.mark.parametrize("kind", pairwise_files.KINDS)
def test_show_result_prints_our_figures_on_our_own_judgments(desk: Path, kind: str) -> None:
    answers, judgments = pairwise_files.judged_pairs(("good", "middling", "poor"), pairwise_files.KINDS[kind])
    seen = seft_bench(
        "export",
        *pairwise_files.FORMAT,
        "little.yaml",
        "--answers",
        str(answers),
        "--judgments",
        str(judgments),
        "--out",
        "out",
    )
    assert seen.status in (0, 5), seen.err
    ours = {result.model: result.metrics for result in score_files("little.yaml", answers, judgments)}
    assert len(ours) == 3
    check(shown(desk / "out" / pairwise_files.FOLDER / "judge-1a2b_pair.jsonl", "gpt-3.5-turbo"), ours)
