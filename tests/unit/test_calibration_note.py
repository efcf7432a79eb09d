"""The warning of a calibration in which hardly a draft was poor."""

from __future__ import annotations

import pytest

from seft_bench.records import Output
from seft_bench.stages.score import _note_thin_calibration
from training.stages import Calibrate, Revising


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
