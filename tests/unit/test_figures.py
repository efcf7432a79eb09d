"""The figure: what is drawn comes from the results, and the file is the same every time."""

from __future__ import annotations

from pathlib import Path

import pytest

from seft_bench.errors import InputError
from seft_bench.report import figures
from seft_bench.report.figures import score_curves
from tests.unit.leaderboard_data import ROWS, matrix, relabelled, result

LEVELS = dict.fromkeys(ROWS, 6.5) | {"start": 5.2}


def drawn(results: list) -> object:  # type: ignore[type-arg]
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=figures.SIZE_INCHES)
    FigureCanvasAgg(figure)
    figures._compose(figure, results, "foot")
    return figure


def test_png_has_the_size_and_the_same_bytes_every_time(tmp_path: Path) -> None:
    results = matrix(LEVELS, seeds=(1, 2), questions=20)
    score_curves(results, tmp_path / "a.png")
    score_curves(results, tmp_path / "b.png")
    first = (tmp_path / "a.png").read_bytes()
    assert first[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(first[16:20], "big"), int.from_bytes(first[20:24], "big")) == (1400, 900)
    assert first == (tmp_path / "b.png").read_bytes()


def test_pdf_has_no_date(tmp_path: Path) -> None:
    score_curves(matrix({"start": 5.0, "seft": 6.0}, seeds=(1,), questions=10), tmp_path / "a.pdf")
    content = (tmp_path / "a.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert b"CreationDate" not in content


def test_a_line_goes_from_the_start_through_every_checkpoint() -> None:
    results = [
        result("start", [5.0] * 10),
        result("dpo", [6.0] * 10, step=75, final=False),
        result("dpo", [7.0] * 10, step=150),
    ]
    axes = drawn(results).axes[0]  # type: ignore[attr-defined]
    assert axes.get_title(loc="left") == "tiny-mtbench, sampled"
    assert axes.get_xlabel() == "training step of the policy"
    assert axes.get_ylabel() == "score (1-10)"
    assert ([0.0, 75.0, 150.0], [5.0, 6.0, 7.0]) in [
        (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()
    ]


def test_the_lower_panel_shows_seft_over_its_amounts_of_prompts() -> None:
    results = [
        result("start", [5.0] * 10),
        result("seft-fewer-prompts", [6.0] * 10),
        result("seft", [7.0] * 10),
        result("own-drafts", [5.5] * 10),
    ]
    axes = drawn(results).axes[-1]  # type: ignore[attr-defined]
    lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.get_lines()}
    assert lines["SEFT, sampled"] == ([0.0, 600.0, 2400.0], [5.0, 6.0, 7.0])
    assert ([2472.0], [5.5]) in lines.values()


def test_bars_are_the_intervals_over_questions_and_seeds() -> None:
    """Seeds at 4, 5, 6, all questions equal: the interval is [4, 6]."""
    results = [result("dpo", [level] * 20, seed=seed) for seed, level in enumerate((4.0, 5.0, 6.0), start=1)]
    axes = drawn(results).axes[0]  # type: ignore[attr-defined]
    assert [4.0, 6.0] in [pytest.approx(list(line.get_ydata())) for line in axes.get_lines()]


def test_panels_for_suite_and_decoding_with_sampled_first() -> None:
    results = matrix({"start": 5.0, "seft": 6.0}, seeds=(1,), questions=10)
    results.sort(key=lambda item: (item.suite, item.decoding))
    titles = [axes.get_title(loc="left") for axes in drawn(results).axes]  # type: ignore[attr-defined]
    assert titles[:2] == ["tiny-alpacaeval, sampled", "tiny-alpacaeval, greedy"]
    assert len(titles) == 6


def test_the_foot_names_questions_seeds_judge_and_what_is_left_out() -> None:
    foot = figures._foot(matrix({"start": 5.0}, seeds=(1, 2), questions=10), withheld=3)
    for part in ("tiny-mtbench 10 questions", "2 training seeds", "rubric-1", "3 withheld results are left out"):
        assert part in foot


def test_hostile_labels_are_drawn_as_text(tmp_path: Path) -> None:
    hostile = [
        relabelled(item, "_$\\frac{\x1b[0m") for item in matrix({"start": 5.0, "seft": 6.0}, seeds=(1,), questions=5)
    ]
    score_curves(hostile, tmp_path / "a.png")
    legend = drawn(hostile).legends[0]  # type: ignore[attr-defined]
    assert r"\$\frac{\x1b[0m" in [text.get_text() for text in legend.get_texts()]


def test_no_seft_row_is_said_and_not_drawn(tmp_path: Path) -> None:
    results = matrix({"start": 5.0, "dpo": 6.0}, seeds=(1,), questions=5)
    score_curves(results, tmp_path / "a.png")
    axes = drawn(results).axes[-1]  # type: ignore[attr-defined]
    assert "no SEFT row" in axes.texts[0].get_text()


def test_nothing_to_draw_and_an_unknown_type_are_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none is published"):
        score_curves([result("dpo", [5.0] * 4, withheld=True)], tmp_path / "a.png")
    with pytest.raises(InputError, match=r"\.png or \.pdf"):
        score_curves([result("dpo", [5.0] * 4)], tmp_path / "a.jpg")


def test_long_labels_are_wrapped_and_stay_within_the_picture() -> None:
    label = "self-label: SFT on the good answers, then its own greedy answers to the unannotated prompts"
    results = [relabelled(item, label) for item in matrix({"start": 5.0, "self-label": 6.0}, seeds=(1,), questions=5)]
    figure = drawn(results)
    box = figure.legends[0].get_window_extent()  # type: ignore[attr-defined]
    assert box.x1 <= figure.bbox.x1  # type: ignore[attr-defined]
