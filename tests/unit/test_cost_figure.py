"""Score against cost: the points, the front, and a picture whose numbers do not cover each other."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from seft_bench.errors import InputError
from seft_bench.records import Result, run_of
from seft_bench.report.arms import panels
from seft_bench.report.cost_figure import cost_pictures, draw_cost, points_by_panel
from seft_bench.report.cost_points import CostPoint, cost_points, pareto_front
from seft_bench.report.curves import panel_measure
from seft_bench.report.places import BOX, places
from seft_bench.stats.intervals import Interval
from tests.unit.leaderboard_data import control, matrix, result


def costing(item: Result, trained: int | None, sampled: int | None = 0) -> Result:
    return dataclasses.replace(
        item, run=dataclasses.replace(run_of(item), tokens_trained=trained, tokens_generated=sampled)
    )


def point(row: str, tokens: float, score: float) -> CostPoint:
    return CostPoint(row, row, "method", tokens, Interval(score, None, None, ""))


def test_the_front_holds_what_no_other_row_beats_at_its_price() -> None:
    points = [point("a", 10, 5.0), point("b", 20, 4.9), point("c", 20, 6.0), point("d", 30, 6.0), point("e", 40, 7.0)]
    assert [found.row for found in pareto_front(points)] == ["a", "c", "e"]
    assert [found.row for found in pareto_front([point("worse", 10, 4.0), point("better", 10, 5.0)])] == ["better"]


def test_a_point_is_what_was_trained_and_sampled_as_a_mean_over_seeds_and_unknown_costs_have_none() -> None:
    results = [
        costing(result("dpo", [6.0, 6.0], seed=1), 100, 20),
        costing(result("dpo", [6.0, 6.0], seed=2), 200, 40),
        costing(result("seft", [7.0, 7.0]), 100, None),
        control("constant", [3.0, 3.0]),
    ]
    [panel] = panels(results)
    [found] = cost_points(results, panel, panel_measure(results, panel))
    assert (found.row, found.tokens, found.score.mean) == ("dpo", 180.0, 6.0)


def test_numbers_of_thirty_points_at_one_price_stand_apart() -> None:
    at = [(200.0 + index % 2, 30.0 + 12.0 * index) for index in range(30)]
    chosen = places(at, (0.0, 0.0, 400.0, 420.0))
    stand = [(x + dx, y + dy) for (x, y), (dx, dy) in zip(at, chosen, strict=True)]
    for index, (x, y) in enumerate(stand):
        for other, (x2, y2) in enumerate(stand):
            assert index == other or abs(x - x2) >= BOX[0] or abs(y - y2) >= BOX[1]


def test_a_matrix_has_one_picture_of_the_same_bytes_every_time(tmp_path: Path) -> None:
    results = matrix({"start": 5.2, "dpo": 6.5, "seft": 7.0, "self-label": 6.8}, seeds=(1, 2), questions=20)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        assert cost_pictures(tmp_path / folder, results) == [tmp_path / folder / "cost.png"]
    assert (tmp_path / "a" / "cost.png").read_bytes() == (tmp_path / "b" / "cost.png").read_bytes()
    panels_of = points_by_panel(results)
    assert [panel.title for panel in panels_of] == ["tiny-alpacaeval, sampled", "tiny-mtbench, sampled"]


def test_bases_have_a_picture_each_and_unknown_costs_none(tmp_path: Path) -> None:
    plain = [costing(result(row, [5.0, 6.0]), 100) for row in ("start", "dpo")]
    both = [
        dataclasses.replace(item, run=dataclasses.replace(run_of(item), base=base))
        for base in ("large", "small")
        for item in plain
    ]
    assert [path.name for path in cost_pictures(tmp_path, both)] == ["cost-large.png", "cost-small.png"]
    assert cost_pictures(tmp_path, [costing(item, None) for item in plain]) == []
    with pytest.raises(InputError, match="of no result are score and cost known"):
        draw_cost([costing(item, None) for item in plain], tmp_path / "none.png")
    with pytest.raises(InputError, match=r"must end in \.png or \.pdf"):
        draw_cost(plain, tmp_path / "cost.jpg")


def test_names_from_outside_are_drawn_as_they_are(tmp_path: Path) -> None:
    named = [
        dataclasses.replace(item, run=dataclasses.replace(run_of(item), label=r"$\frac{x}{0}$ _x"))
        for item in [costing(result("dpo", [5.0, 6.0]), 1000), costing(result("dpo", [5.0, 6.0], seed=2), 1000)]
    ]
    draw_cost(named, tmp_path / "cost.png")
    assert (tmp_path / "cost.png").read_bytes()[:4] == b"\x89PNG"
