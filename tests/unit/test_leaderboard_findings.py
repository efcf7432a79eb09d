"""Sentences must follow the paired intervals, whichever way they point."""

from __future__ import annotations

import dataclasses

from seft_bench.records import Result
from seft_bench.report.leaderboard import findings
from tests.unit.leaderboard_data import matrix, relabelled, result

N = 40


def arm(row: str, level: float, wobble: float = 0.0, content: float = 0.5) -> Result:
    """Level on every question, with a wobble that is + on half of them and - on the others."""
    figures = [level + (wobble if index % 2 else -wobble) for index in range(N)]
    return result(row, figures, content=[content] * N)


def sentence(sentences: list[str], part: str) -> str:
    found = [line for line in sentences if part in line]
    assert len(found) == 1, f"{part!r} is in {len(found)} of {sentences}"
    return found[0]


def test_a_control_that_leads_is_named_and_takes_the_credit_from_the_reviser() -> None:
    said = findings([arm("start", 5.0), arm("seft", 6.0), arm("self-label", 7.0)])
    assert (
        sentence(said, "leads")
        == 'tiny-mtbench, sampled: "self-label" (a control) leads with a score of 7.00 [7.00, 7.00].'
    )
    assert "+1.00 [+1.00, +1.00], which excludes zero; SEFT beats the start." in sentence(said, "against the start")
    verdict = sentence(said, 'against the control "self-label"')
    assert "-1.00 [-1.00, -1.00], which excludes zero" in verdict
    assert "the control does better, so what SEFT gains cannot be credited to the reviser" in verdict


def test_a_control_within_the_interval_also_takes_the_credit() -> None:
    said = findings([arm("start", 5.0), arm("seft", 6.0, wobble=0.5), arm("own-drafts", 5.99)])
    verdict = sentence(said, 'against the control "own drafts"')
    assert "which includes zero" in verdict
    assert "does as well, within the interval, so what SEFT gains cannot be credited to the reviser" in verdict
    assert '"SEFT" leads' in sentence(said, "leads")
    assert 'not told apart from it by the paired interval: "own drafts" (a control)' in sentence(said, "leads")


def test_where_seft_is_ahead_of_the_control_nothing_is_taken_away() -> None:
    said = findings([arm("start", 5.0), arm("seft", 7.0), arm("self-label", 6.0), arm("always-rewrite", 6.5)])
    assert "SEFT is ahead of what this control explains" in sentence(said, "against the control")
    assert "deciding when to revise pays" in sentence(said, '"always rewrite"')
    assert not [line for line in said if "cannot be credited" in line]


def test_always_rewrite_as_good_owes_nothing_to_the_decision() -> None:
    said = findings([arm("start", 5.0), arm("seft", 7.0, wobble=0.3), arm("always-rewrite", 7.0)])
    assert "rewriting everything does as well" in sentence(said, '"always rewrite":')


def test_fewer_prompts_test_the_number_of_prompts_not_the_reviser() -> None:
    said = findings([arm("start", 5.0), arm("seft", 7.0), arm("seft-fewer-prompts", 7.0)])
    assert "cannot be credited to the larger number of unannotated prompts" in sentence(said, 'fewer prompts":')


def test_a_worse_or_equal_seft_is_said() -> None:
    assert "SEFT is worse than the start" in sentence(
        findings([arm("start", 5.0), arm("seft", 4.0)]), "against the start"
    )
    assert "no difference is shown" in sentence(findings([arm("start", 5.0), arm("seft", 5.0)]), "against the start")


def test_content_alone_is_said_whether_it_excludes_zero() -> None:
    more = sentence(findings([arm("start", 5.0, content=0.5), arm("seft", 6.0, content=0.625)]), "content alone")
    assert "(whose content score is 0.500) is +0.125 [+0.125, +0.125], which excludes zero" in more
    same = sentence(findings([arm("start", 5.0), arm("seft", 6.0)]), "content alone")
    assert "+0.000 [+0.000, +0.000], which includes zero" in same
    ungraded = [dataclasses.replace(item, parts={}) for item in (arm("start", 5.0), arm("seft", 6.0))]
    assert not [line for line in findings(ungraded) if "content" in line]


def test_withheld_and_absent_rows_are_not_compared() -> None:
    withheld = dataclasses.replace(arm("seft", 9.0), withheld=True)
    said = findings([arm("start", 5.0), withheld])
    assert '"SFT (start)" leads' in said[0]
    assert "SEFT has no figure here" in said[1]
    assert "every result is withheld" in findings([withheld])[0]
    assert findings([dataclasses.replace(withheld, run=None)]) == []


def test_every_suite_and_decoding_is_told_and_seeds_are_counted() -> None:
    said = findings(matrix({"start": 5.0, "seft": 7.0}, seeds=(1, 2), questions=20))
    assert [line.split(": ")[0] for line in said if "leads" in line] == [
        "tiny-alpacaeval, sampled",
        "tiny-alpacaeval, greedy",
        "tiny-mtbench, sampled",
        "tiny-mtbench, greedy",
    ]
    assert "2 training seeds" in said[-1]
    assert "training noise is not in them" in findings([arm("start", 5.0)])[-1]


def test_hostile_labels_are_neutralised() -> None:
    hostile = arm("start", 5.0)
    said = findings([relabelled(hostile, "\x1b[31mred")])
    assert "\x1b" not in "".join(said)
