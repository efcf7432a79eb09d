"""Pictures of a study: points come from the results, and each kind is drawn only where it has something to show."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seft_bench.records import Result, run_of
from seft_bench.report import study_figures
from seft_bench.report.figures import SEFT_COLOUR
from seft_bench.report.pools import Pool
from seft_bench.report.study import Study, compare
from seft_bench.report.study_drawing import looks_of, save
from seft_bench.report.study_figures import study_pictures
from seft_bench.report.study_points import Line
from tests.unit.study_data import AHEAD, ALL_THREE, LEVEL, ONE, STUDY, world


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """File name -> the figure behind it."""
    figures: dict[str, Any] = {}

    def keep(path: Path, size_inches: tuple[float, float], compose: Any) -> None:
        def both(figure: Any) -> None:
            figures[path.name] = figure
            compose(figure)

        save(path, size_inches, both)

    monkeypatch.setattr(study_figures, "save", keep)
    return figures


def pictures(folder: Path, results: list[Result], study: Study) -> dict[str, list[str]]:
    found = study_pictures(folder, results, study, compare(results, study))
    return {title: [path.name for path in paths] for title, paths in found.items()}


def line_of(axes: Any, colour: str) -> tuple[list[float], list[float]]:
    (found,) = [line for line in axes.get_lines() if line.get_color() == colour and line.get_marker() == "o"]
    return list(found.get_xdata()), list(found.get_ydata())


def test_scores_and_differences_against_annotated_types(tmp_path: Path, drawn: dict[str, Any]) -> None:
    results = [*world({**AHEAD, "start": 2.0}, ("note", "kind")), *world({**LEVEL, "start": 2.0}, ("all",))]
    study = dataclasses.replace(
        STUDY, methods={**STUDY.methods, "start": "start"}, labels={**STUDY.labels, "start": "S"}
    )
    assert pictures(tmp_path, results, study) == {"Scores against the number of annotated types": ["annotation.png"]}
    figure = drawn["annotation.png"]
    top, bottom = figure.axes[0], figure.axes[1]
    assert [axes.get_title(loc="left") for axes in figure.axes[::2]] == [
        "tiny-mtbench, sampled",
        "tiny-mtbench, greedy",
    ]
    assert [label.get_text() for label in top.get_xticklabels()] == ["1", "3"]
    own = [result for result in results if run_of(result).row == "seft" and result.decoding == "sampled"]
    pooled = [result for result in own if run_of(result).data != "all"]
    expected = np.mean([list(result.per_question.values()) for result in pooled])
    xs, ys = line_of(top, SEFT_COLOUR)
    assert np.diff(xs) == pytest.approx(1.0)
    assert ys[0] == pytest.approx(expected)
    assert ys[1] == pytest.approx(7.0, abs=0.2)
    assert not [line for line in bottom.get_lines() if line.get_color() == SEFT_COLOUR]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["SEFT", "self-label", "untrained", "DPO"]
    again = (tmp_path / "annotation.png").read_bytes()
    pictures(tmp_path, results, study)
    assert (tmp_path / "annotation.png").read_bytes() == again
    assert again.startswith(b"\x89PNG")


def test_scores_against_prompts(tmp_path: Path, drawn: dict[str, Any]) -> None:
    levels = {"seft": 7.0, "seft-many": 8.0, "self-label": 6.0, "dpo": 5.0}
    prompts = {"seft": 600, "seft-many": 2400, "self-label": 600}
    study = Study(
        [ONE], {row: row for row in levels}, {row: row for row in levels}, {"seft": ["dpo"]}, STUDY.annotated,
        lines={"seft": "SEFT, equal steps", "seft-many": "SEFT, equal steps", "self-label": "label", "dpo": "DPO"},
    )  # fmt: skip
    shown = pictures(tmp_path, world(levels, ("note", "kind"), prompts=prompts), study)
    assert shown == {"Scores against unannotated prompts": ["prompts.png"]}
    axes = drawn["prompts.png"].axes[0]
    xs, ys = line_of(axes, SEFT_COLOUR)
    assert xs == pytest.approx([600, 2400], rel=0.05)
    assert ys == pytest.approx([7.0, 8.0], abs=0.1)
    assert [text.get_text() for text in drawn["prompts.png"].legends[0].get_texts()] == ["SEFT, equal steps", "DPO"]
    level = [line.get_ydata()[0] for line in axes.get_lines() if list(line.get_xdata()) == [0, 1]]
    assert level == [pytest.approx(5.0, abs=0.1)]  # DPO, which uses none; one amount of a label's line is no line


def test_data_sets_that_differ_in_prompts_are_points_of_one_row(tmp_path: Path, drawn: dict[str, Any]) -> None:
    few, many = Pool("", 1, "", ("note",), 600), Pool("", 1, "", ("kind",), 1200)
    results = [
        *world({"seft": 7.0, "dpo": 5.0}, ("note",), prompts={"seft": 600}),
        *world({"seft": 8.0, "dpo": 5.0}, ("kind",), prompts={"seft": 1200}),
    ]
    study = dataclasses.replace(STUDY, pools=[few, many], lines={"seft": "SEFT", "dpo": "DPO"})
    assert pictures(tmp_path, results, study) == {"Scores against unannotated prompts": ["prompts.png"]}
    assert line_of(drawn["prompts.png"].axes[0], SEFT_COLOUR)[0] == pytest.approx([600, 1200], rel=0.05)


def test_bases_have_pictures_of_their_own_and_one_amount_has_none(tmp_path: Path) -> None:
    pools = [dataclasses.replace(pool, base=base) for base in ("a", "b") for pool in (ONE, ALL_THREE)]
    results = world(AHEAD, ("note", "kind", "all"))
    both = pictures(tmp_path, results, dataclasses.replace(STUDY, pools=pools))
    assert both == {"Scores against the number of annotated types": ["annotation-a.png", "annotation-b.png"]}
    assert not pictures(tmp_path, results, dataclasses.replace(STUDY, pools=[ONE]))


def test_lines_are_told_apart() -> None:
    names = [*(f"method {number}" for number in range(12)), "SEFT, equal steps", "SEFT, growing steps"]
    looks = looks_of({name: Line(name, "method", "m") for name in names}, "SEFT, equal steps")
    seen = [(look["color"], look["marker"], str(look["linestyle"])) for look in looks.values()]
    assert len(set(seen)) == len(names)
    assert [look["color"] for name, look in looks.items() if name.startswith("SEFT")] == [SEFT_COLOUR] * 2
    control = looks_of({"a": Line("a", "control", "m")}, None)["a"]
    assert (control["markerfacecolor"], control["linestyle"]) == ("white", (0, (4, 2)))
