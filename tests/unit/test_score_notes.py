"""Warnings of a calibration in which hardly a draft was poor, and of labels that make a reviser copy."""

from __future__ import annotations

import pytest

from seft_bench.records import Output
from seft_bench.stages.score import _note_few_revised, _note_thin_calibration
from training.stages import Calibrate, LabelPairs, Revising


@pytest.mark.parametrize(
    ("poor", "max_poor_kept", "warned"),
    [
        (0, 0.1, "every draft of this round is kept"),
        (0, 0.0, "every draft of this round is kept"),
        (9, 0.1, "rests on them alone"),
        (10, 0.1, None),
        (3, 0.0, None),
    ],
)
def test_few_poor_drafts_are_named(
    poor: int, max_poor_kept: float, warned: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    revising = Revising("mode", "Improve it.", 8, 8)
    stage = Calibrate("calibration-1", Output("reviser"), Output("drafts"), "likelihood", max_poor_kept, revising)
    _note_thin_calibration(stage, poor, 12)
    said = capsys.readouterr().err
    if warned is None:
        assert said == ""
    else:
        assert warned in said
        assert f"{poor} of 12 calibration drafts" in said
        assert "decision: margin" in said


@pytest.mark.parametrize(("revised", "warned"), [(7, True), (8, False), (0, True)])
def test_labels_that_make_a_reviser_copy_are_named(
    revised: int, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = LabelPairs("labels", Output("reviser"), Output("pairs"), 3, "Improve it.")
    _note_few_revised(stage, revised, 80)
    said = capsys.readouterr().err
    assert (f"only {revised} of 80" in said) == warned
    assert ("label_rule: annotated" in said) == warned
