"""A row against others over data sets: figures by hand, what is pooled, and what the tables say."""

from __future__ import annotations

import csv
import io

import pytest

from seft_bench.bench.study import compared_of, methods_of, what_is_tested
from seft_bench.config import MatrixConfig, MatrixRow
from seft_bench.records import Result, RunFacts
from seft_bench.report.annotation import Annotated
from seft_bench.report.pools import Pool
from seft_bench.report.render import RENDERERS
from seft_bench.report.study import Compared, Study, compare
from seft_bench.report.study_table import reader_tables, wide_table

TYPES = {"q1": "note", "q2": "kind", "q3": "add"}
ONE = Pool("", 1, "", ("note", "kind"))
ALL_THREE = Pool("", 3, "", ("all",))
STUDY = Study(
    [ONE, ALL_THREE],
    {"start": "start", "seft": "seft", "seft-other": "seft", "self-label": "self-label"},
    {"start": "START", "seft": "SEFT", "self-label": "SELF-LABEL"},
    {"seft": ["start", "self-label"]},
    Annotated({"tiny-mtbench": TYPES}, {"note": ["note"], "kind": ["kind"], "all": ["note", "kind", "add"]}),
)


def result(row: str, seed: int, data: str, scores: list[float], final: bool = True) -> Result:
    questions = list(TYPES)
    return Result(
        "tiny-mtbench",
        f"{data}-{row}-seed{seed}",
        {"score": sum(scores) / 3},
        3, 3, 0, 1.0, False, "rubric", "greedy",
        per_question=dict(zip(questions, scores, strict=True)),
        parts={"content": dict.fromkeys(questions, 0.5), "style": dict.fromkeys(questions, scores[0] / 10)},
        run=RunFacts(row, row.upper(), "method", row, seed, step=9, final=final, data=data),
    )  # fmt: skip


def study_of(gains: dict[tuple[str, int], list[float]]) -> list[Compared]:
    """Comparisons where SEFT is so much above self-label on each data set and seed."""
    results = []
    for (data, seed), gain in gains.items():
        results += [
            result("self-label", seed, data, [5, 5, 5]),
            result("seft", seed, data, [5 + each for each in gain]),
            result("seft", seed, data, [1, 1, 1], final=False),
        ]
    return compare(results, STUDY)


def one(found: list[Compared], pool: Pool, part: str, measure: str = "score") -> Compared:
    return next(item for item in found if (item.pool, item.part, item.measure.key) == (pool, part, measure))


def test_data_sets_of_one_pool_are_taken_together_and_parted_by_their_own_types() -> None:
    gains = {("note", 0): [1, 2, 6], ("note", 1): [3, 2, 6], ("kind", 0): [0, -4, 0], ("kind", 1): [0, -2, 0]}
    found = study_of({**gains, ("all", 0): [9, 9, 0]})  # type: ignore[arg-type]
    every = one(found, ONE, "all")
    assert every.found.alone.mean == pytest.approx((1 + 2 + 6 + 3 + 2 + 6 - 4 - 2) / 12)
    assert (every.data_sets, every.seeds, every.runs, every.questions, every.ahead) == (2, 2, 4, 3, 1)
    assert every.rows == 1  # the start has no result, so nothing is corrected for it
    annotated = one(found, ONE, "annotated")
    assert annotated.found.alone.mean == pytest.approx((1 + 3 - 4 - 2) / 4)  # q1 of note, q2 of kind
    assert one(found, ONE, "never annotated").found.alone.mean == pytest.approx((2 + 6 + 2 + 6) / 8)
    assert one(found, ONE, "all", "style").found.alone.mean == pytest.approx((0.1 + 0.3) / 4)
    assert one(found, ONE, "all", "content").verdict == "tie"
    assert one(found, ALL_THREE, "annotated").found.alone.mean == 6.0
    assert not [item for item in found if (item.pool, item.part) == (ALL_THREE, "never annotated")]


def test_a_run_that_one_row_lacks_is_left_out_of_its_pair_alone() -> None:
    results = [
        *(result("seft", seed, "note", [6, 6, 6]) for seed in (0, 1)),
        *(result("start", seed, "note", [5, 5, 5]) for seed in (0, 1)),
        result("self-label", 1, "note", [2, 2, 2]),
        result("self-label", 2, "note", [9, 9, 9]),
    ]
    found = compare(results, STUDY)
    start, label = (item for item in found if item.part == "all" and item.measure.key == "score")
    assert (start.found.alone.mean, start.runs, start.rows) == (1.0, 2, 2)
    assert (label.found.alone.mean, label.runs, label.rows) == (4.0, 1, 2)


def test_a_difference_without_spread_holds_with_the_correction() -> None:
    found = study_of({(data, seed): [1, 1, 1] for data in ("note", "kind") for seed in (0, 1, 2)})
    assert one(found, ONE, "all").verdict == "ahead"
    behind = {(data, seed): [-1, -1, -1] for data in ("note", "kind") for seed in (0, 1)}
    assert study_of(behind)[0].verdict == "behind"  # type: ignore[arg-type]
    assert study_of({("note", 0): [-1, -1, -1], ("note", 1): [-1, -1, -1]})[0].verdict == "behind alone"


def test_the_tables_say_what_holds_and_how_many_there_are() -> None:
    found = study_of({(data, seed): [1, 1, 1] for data in ("note", "kind") for seed in (0, 1, 2)})
    rows = list(csv.DictReader(io.StringIO(RENDERERS["csv"](wide_table(found, STUDY.labels)))))
    assert [row["part"] for row in rows] == ["all questions", "annotated task types", "never annotated task types"]
    first = rows[0]
    assert (first["pool"], first["method"], first["against"]) == (
        "1 annotated type (2 data sets)",
        "SEFT",
        "SELF-LABEL",
    )
    figures = ("main", "main_corrected_low", "main_verdict", "main_ahead")
    assert [first[key] for key in figures] == ["1.0", "1.0", "ahead", "2"]
    counts = ("types", "questions", "data_sets", "seeds", "runs", "compared")
    assert [int(first[key]) for key in counts] == [1, 3, 2, 3, 6, 1]
    assert first["content_verdict"] == "tie"
    text = "\n".join(RENDERERS["md"](table) for table in reader_tables(found, STUDY.labels))
    assert "### SEFT minus others: 1 annotated type (2 data sets)\n" in text
    assert "▲ \\[+1.00, +1.00\\]" in text
    assert "the 6 runs of 3 seeds crossed with 2 data sets, 1 row compared" in text
    assert "*style, never annotated task types*" in text


def test_labels_of_pools() -> None:
    assert ONE.label == "1 annotated type (2 data sets)"
    label = "16 annotated types, 400 pairs, 1,200 prompts, on the base small (1 data set)"
    assert Pool("small", 16, "400 pairs", ("a",), 1200).label == label


def test_rows_of_one_method_stand_in_for_each_other_on_other_data_sets() -> None:
    results = [result("seft", 0, "note", [6, 6, 6]), result("seft-other", 0, "kind", [8, 8, 8])]
    results += [result("start", 0, data, [5, 5, 5]) for data in ("note", "kind")]
    found = one(compare(results, STUDY), ONE, "all")
    assert (found.row, found.found.alone.mean, found.data_sets) == ("seft", 2.0, 2)


ONE_TYPE, TWO_TYPES = ({"tinyworld": {"annotated_types": types}} for types in (["note"], ["note", "kind"]))


def matrix(rows: list[dict[str, object]], **keys: object) -> MatrixConfig:
    data = [ONE_TYPE, TWO_TYPES]
    values = {"name": "m", "base": "tinyworld", "seeds": [0], "suites": ["tiny-mtbench"], "data": data, "rows": rows}
    return MatrixConfig.model_validate(values | keys)


def test_a_line_joins_rows_of_different_data_sets_only() -> None:
    joined = [
        {"name": "seft-one", "method": "seft", "line": "SEFT", "data": ["note"]},
        {"name": "seft-two", "method": "seft", "line": "SEFT", "data": ["note-kind"]},
        {"name": "few", "method": "seft", "line": "prompts", "settings": {"prompts": 600}},
        {"name": "many", "method": "seft", "line": "prompts"},
    ]
    found = methods_of(matrix(joined))
    assert found == {"seft-one": "SEFT", "seft-two": "SEFT", "few": "few", "many": "many"}


def test_what_is_compared_is_named_by_row_or_line_or_follows_from_the_methods() -> None:
    rows = [
        {"name": "start", "method": "sft", "role": "start"},
        {"name": "label", "method": "self-label"},
        {"name": "revised", "method": "seft", "line": "ours"},
    ]
    methods = methods_of(matrix(rows))
    assert compared_of(matrix(rows), methods) == {"ours": ["start", "label"]}
    chosen = matrix(rows, compare={"row": "label", "with": ["revised"]})
    assert compared_of(chosen, methods) == {"label": ["ours"]}
    assert chosen.as_row()["compare"] == [{"row": "label", "with": ["revised"]}]
    assert MatrixConfig.model_validate(chosen.as_row()) == chosen
    assert compared_of(matrix(rows[:2]), methods_of(matrix(rows[:2]))) == {}


@pytest.mark.parametrize(
    ("compare", "said"),
    [
        ({"row": "sefd"}, "`compare` names sefd; rows and lines are start, seft"),
        ({"row": "seft", "with": ["seft"]}, "row seft is compared with itself"),
        ([{"row": "seft"}, {"row": "seft", "with": ["start"]}], "two comparisons have one row"),
    ],
)
def test_a_comparison_that_cannot_be_is_refused(compare: object, said: str) -> None:
    rows: list[dict[str, object]] = [{"name": name, "method": name} for name in ("sft", "seft")]
    rows[0]["name"] = "start"
    with pytest.raises(ValueError, match=said):
        matrix(rows, compare=compare)


OWN: dict[str, object] = {"decision": "margin", "margin": -0.1, "rounds": 1, "reviser": {"learning_rate": 1e-4}}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"decision": "always", "rounds": 1, "reviser": OWN["reviser"]}, "deciding when to revise"),
        ({"decision": "margin", "margin": -0.1, "rounds": 1, "reviser_kind": "untrained"}, "training the reviser"),
        ({"decision": "margin", "margin": -0.1, "rounds": 2, "reviser_kind": "untrained"}, ""),  # in rounds too
        ({**OWN, "rounds": 2}, ""),
    ],
)
def test_a_variant_tests_what_it_lacks_where_all_else_is_equal(settings: dict[str, object], said: str) -> None:
    row = MatrixRow(name="seft", method="seft", settings=OWN)
    assert what_is_tested(row, MatrixRow(name="other", method="seft", settings=settings)) == said


def test_a_control_tests_the_reviser() -> None:
    row = MatrixRow(name="seft", method="seft")
    assert what_is_tested(row, MatrixRow(name="label", method="self-label", role="control")) == "the reviser"
    assert what_is_tested(row, MatrixRow(name="dpo", method="dpo")) == ""
