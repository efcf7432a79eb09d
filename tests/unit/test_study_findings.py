"""Sentences on a study: each verdict in a world that is made to show it."""

from __future__ import annotations

import pytest

from seft_bench.records import run_of
from seft_bench.report.pools import Pool
from seft_bench.report.study import Study, compare
from seft_bench.report.study_findings import sentences, summary
from tests.unit.study_data import AHEAD, LEVEL, STUDY, world

DESIGN = "(3 seeds crossed with 2 data sets; 3 methods compared)"


def test_it_pays_where_it_is_ahead_of_every_control_and_ties_where_it_is_not() -> None:
    found = compare([*world(AHEAD, ("note", "kind")), *world(LEVEL, ("all",))], STUDY)
    pays, ties, unclaimed = summary(found, STUDY)["seft"]
    assert pays.startswith(
        f'With 1 annotated type {DESIGN}, "SEFT" pays: ahead of "self-label" in all 2 of suite x decoding; '
        'against "self-label": tiny-mtbench +'
    )
    assert ties.startswith(
        'With 3 annotated types (3 seeds on 1 data set; 3 methods compared), "SEFT" ties: not told apart from '
        '"self-label" in all 2 of suite x decoding; against "self-label": tiny-mtbench '
    )
    assert unclaimed == (
        'Not claimed of "SEFT": that training the reviser adds to the policy (ahead of "untrained" in 0 of 2 with 1 '
        'and 3 annotated types); a gain in content (ahead of "self-label" in 0 of 2 with 1 and 3 annotated types). '
        "3 seeds, each on 2 + 1 of the data sets; 3 methods compared."
    )


def test_nothing_is_unclaimed_where_everything_holds() -> None:
    found = compare(world({**AHEAD, "untrained": 6.0}, ("note", "kind"), content=0.2), STUDY)
    (pays,) = summary(found, STUDY)["seft"]
    assert '"SEFT" pays' in pays


def test_it_loses_where_a_control_is_ahead() -> None:
    found = compare(world({**AHEAD, "self-label": 9.0}, ("note", "kind")), STUDY)
    said = summary(found, STUDY)["seft"][0]
    assert f'With 1 annotated type {DESIGN}, "SEFT" loses: behind "self-label" in 2 of 2' in said
    owed = next(sentence for sentence in sentences(found, STUDY) if 'minus "self-label"' in sentence)
    assert "without it the score is higher in 2 of 2, so nothing is owed to the reviser." in owed
    assert "On 0 of 2 data sets or more the mean is above 0." in owed


def test_all_in_words() -> None:
    found = compare(world(AHEAD, ("note", "kind")), STUDY)
    standing, label, untrained = sentences(found, STUDY)
    assert standing == (
        f'With 1 annotated type {DESIGN}, "SEFT" is ahead of "self-label" and "DPO" in all 2 of suite x decoding; not '
        'told apart from "untrained" in any of 2.'
    )
    assert label.startswith(f'With 1 annotated type {DESIGN}, "SEFT" minus "self-label": tiny-mtbench +')
    assert "; the reviser adds to it in all 2 of suite x decoding." in label
    assert (
        "Ahead on annotated types in 2 of 2, on never annotated types in 2 of 2, in content in 0 of 2. On 2 of 2 data "
        "sets the mean is above 0."
    ) in label
    assert "; nothing can be credited to training the reviser." in untrained


def test_only_a_part_of_suites_and_decodings() -> None:
    results = [
        result
        for levels, decoding in ((AHEAD, "sampled"), (LEVEL, "greedy"))
        for result in world(levels, ("note", "kind"))
        if result.decoding == decoding
    ]
    assert '"SEFT" pays in part: ahead of "self-label" in 1 of 2;' in summary(compare(results, STUDY), STUDY)["seft"][0]


@pytest.mark.parametrize("base", ["", "small"])
def test_bases_are_named(base: str) -> None:
    pool = Pool(base, 1, "", ("note", "kind"), 600)
    study = Study([pool], STUDY.methods, STUDY.labels, STUDY.compared, STUDY.annotated, STUDY.tests)
    said = summary(compare(world(AHEAD, ("note", "kind")), study), study)["seft"]
    where = f"1 annotated type, 600 prompts{', on the base small' if base else ''}"
    assert said[0].startswith(f"With {where} (3 seeds crossed")
    assert f'(ahead of "untrained" in 0 of 2 with {where})' in said[-1]


def test_fewer_than_three_runs_decide_nothing() -> None:
    results = [result for result in world(AHEAD, ("note",)) if run_of(result).seed < 2]
    said = summary(compare(results, STUDY), STUDY)["seft"][0]
    assert said.startswith(
        'With 1 annotated type (2 seeds on 1 data set; 3 methods compared), "SEFT" has too few runs for a verdict;'
    )
    assert sentences(compare(results, STUDY), STUDY) == [
        'With 1 annotated type (2 seeds on 1 data set; 3 methods compared), "SEFT" is not compared with "self-label", '
        '"untrained" and "DPO", for want of runs.'
    ]
