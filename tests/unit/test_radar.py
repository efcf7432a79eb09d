"""The radar: real files of every type, the same bytes each time, and words that say what is not drawn."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from seft_bench.errors import InputError
from seft_bench.records import Result
from seft_bench.report import radar
from seft_bench.report.arms import MEASURES
from tests.integration.cli import seft_bench

CATEGORIES = ("coding", "extraction", "humanities", "math", "own-one", "writing")


def result(model: str, score: float, withheld: bool = False, **changes: Any) -> Result:
    categories = {
        name: {"score": score, "se": 0.5, "low": score - 1.5, "high": score + 1.5, "questions": 10}
        for name in CATEGORIES
    }
    metrics = {
        "score": score,
        "low": score - 0.5,
        "high": score + 0.5,
        "by_category": dict.fromkeys(CATEGORIES, score),
        "categories": categories,
    }
    values: dict[str, Any] = {
        "suite": "mtbench",
        "n": 160,
        "n_scored": 160,
        "n_unscored": 0,
        "coverage": 1.0,
        "judge_id": "judge-1",
    }
    return Result(**(values | {"model": model, "metrics": metrics, "withheld": withheld} | changes))


@pytest.mark.parametrize(("name", "start"), [("r.png", b"\x89PNG"), ("r.pdf", b"%PDF"), ("r.svg", b"<?xml")])
def test_every_type_is_drawn_and_the_same_results_give_the_same_bytes(tmp_path: Path, name: str, start: bytes) -> None:
    results = [result("one", 6.0), result("two", 7.25)]
    radar.draw_radar(results, tmp_path / name)
    radar.draw_radar(results, tmp_path / f"again-{name}")
    assert (tmp_path / name).read_bytes().startswith(start)
    assert (tmp_path / name).read_bytes() == (tmp_path / f"again-{name}").read_bytes()
    radar.draw_radar([results[0], result("two", 3.0)], tmp_path / f"other-{name}")
    assert (tmp_path / name).read_bytes() != (tmp_path / f"other-{name}").read_bytes()


def svg_texts(path: Path) -> list[str]:
    """matplotlib writes each text as a comment beside its outlines."""
    return [text.strip() for text in re.findall(r"<!--(.*?)-->", path.read_text(encoding="utf-8"), re.DOTALL)]


def test_names_intervals_and_the_caption_are_in_the_picture(tmp_path: Path) -> None:
    radar.draw_radar(
        [result("weak", 5.0), result("strong", 7.25), result("gone", 9.0, withheld=True)], tmp_path / "r.svg"
    )
    texts = svg_texts(tmp_path / "r.svg")
    assert [text for text in texts if text in CATEGORIES] == [
        "writing",
        "math",
        "coding",
        "extraction",
        "humanities",
        "own-one",
    ]  # the paper's order
    assert texts.index("strong  7.25 [6.75, 7.75]") < texts.index("weak  5.00 [4.50, 5.50]")
    words = " ".join(texts)
    assert "1 withheld results of the suite are left out." in words
    assert "interval is +/- 1.50 at the median (1.50 to 1.50)" in words
    assert "gone" not in words


def test_the_best_eight_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    radar.draw_radar([result(f"model-{index}", 1.0 + index / 2) for index in range(10)], tmp_path / "r.svg")
    texts = svg_texts(tmp_path / "r.svg")
    assert [text.split()[0] for text in texts if text.startswith("model-")] == [
        f"model-{index}" for index in range(9, 1, -1)
    ]
    assert "The best 8 of 10 models." in " ".join(texts)


def test_judges_never_share_a_panel(tmp_path: Path) -> None:
    radar.draw_radar([result("one", 5.0), result("two", 6.0, judge_id="judge-2")], tmp_path / "r.svg")
    texts = svg_texts(tmp_path / "r.svg")
    assert "mtbench, given, judge judge-1" in texts
    assert "mtbench, given, judge judge-2" in texts


def test_a_win_rate_is_drawn_on_its_own_scale(tmp_path: Path) -> None:
    metrics = {
        "win_rate": 48.6,
        "win_rate_low": 40.2,
        "win_rate_high": 57.1,
        "by_category": dict.fromkeys(CATEGORIES, 48.6),
    }
    radar.draw_radar([result("one", 5.0, suite="mtbench-pairwise", metrics=metrics)], tmp_path / "r.svg")
    texts = svg_texts(tmp_path / "r.svg")
    assert "one  48.6 [40.2, 57.1]" in texts
    assert "100" in texts
    assert MEASURES[0].key == "win_rate"


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.png, \.pdf, \.svg"):
        radar.draw_radar([result("one", 5.0)], tmp_path / "r.gif")
    with pytest.raises(InputError, match="no radar to draw"):
        radar.draw_radar([result("one", 5.0, withheld=True)], tmp_path / "r.png")
    with pytest.raises(InputError, match="these results make 4"):
        radar.draw_radar([result("one", 5.0, judge_id=f"judge-{index}") for index in range(4)], tmp_path / "r.png")
    assert list(tmp_path.iterdir()) == []


def test_scored_files_reach_the_leaderboard_and_the_radar(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight real models, two of them withheld."""
    monkeypatch.setenv("SEFT_BENCH_DATA_DIR", str(shared_data / "official"))
    judgments = shared_data / "mt_bench" / "judgments_single.jsonl.gz"
    assert (
        seft_bench(
            "score", "--suite", "mtbench", "--judgments", str(judgments), "--results", str(tmp_path / "kept")
        ).status
        == 5
    )
    assert len(list((tmp_path / "kept" / "mtbench").glob("*/result.json"))) == 8
    seen = seft_bench("leaderboard", "--results", str(tmp_path / "kept"), "--radar", str(tmp_path / "r.svg"))
    assert seen.status == 0, seen.err
    assert "mamba_0_5_dpo_ep3" in seen.out
    texts = svg_texts(tmp_path / "r.svg")
    assert "mamba_0_5_dpo_ep3  7.31 [6.66, 7.97]" in texts
    assert len([text for text in texts if re.fullmatch(r".+  \d\.\d\d \[.*\]", text)]) == 6
