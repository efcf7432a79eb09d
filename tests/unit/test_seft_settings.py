"""SEFT's settings as stages: who revises, who drafts, what the policy learns and starts from; and what is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, cast

import pytest

from seft_bench.config import load_matrix
from seft_bench.data.training import open_ready_model
from seft_bench.errors import InputError
from seft_bench.files import read_jsonl, write_jsonl
from seft_bench.records import Base, Data, Model, Output, Row
from seft_bench.stages.common import Find, Workshop
from seft_bench.stages.engines import Answered, Engine
from seft_bench.stages.revise import run_revise
from training.logprobs import AnswerLogprob
from training.methods import build_stages
from training.realign import RealignSettings
from training.reviser import revision_prompt
from training.seft import SeftSettings
from training.shapes import Files, shape_rows
from training.stages import Learnt, Revise, Revising, Shape, ready_models

ONE_ROUND: dict[str, Any] = {"evolution": "external", "rounds": 1}
THIRD_TRIAL: dict[str, Any] = {
    **ONE_ROUND,
    "instruction": "Please improve that.",
    "reviser": {"learning_rate": 1e-4},
    "copies_share": 1.0,
    "init": "base",
    "draft_policy": "chosen",
    "teacher": {"learning_rate": 1e-3, "max_steps": 50},
    "drafts": {"temperature": 0.0},
    "decision": "margin",
    "good_answers": True,
    "policy": {"learning_rate": 1e-3},
}


def stages(method: str, **settings: object) -> dict[str, Any]:
    """Name -> stage."""
    return {stage.name: stage for stage in build_stages(method, settings, checkpoints=2)}


# --- stage graphs


def test_the_third_trials_recipe() -> None:
    """Chosen policy -> its greedy answers -> revise below the margin -> policy on that and y_h, each from the base."""
    found = stages("seft", **THIRD_TRIAL)
    assert list(found) == ["chosen", "preliminary-reviser", "labels", "reviser", "drafts-1", "revised-1", "policy-1"]
    assert (found["chosen"].model, found["chosen"].settings.max_steps) == (Base(), 50)
    assert (found["drafts-1"].model, found["drafts-1"].settings.temperature) == (Output("chosen"), 0.0)
    assert (found["revised-1"].margin, found["revised-1"].settings.instruction) == (-0.2, "Please improve that.")
    assert found["policy-1"].inputs == {
        "model": Base(),
        "data": Output("revised-1"),
        "preferences": Data("preferences"),
    }
    assert found["policy-1"].settings.max_steps == 150


def test_the_chosen_policy_of_seft_is_the_one_of_self_label() -> None:
    assert stages("seft", draft_policy="chosen")["chosen"] == stages("self-label")["chosen"]


def test_a_reviser_starts_where_it_is_told_to() -> None:
    for init, source, first in (
        ("start", Output("start"), "start"),
        ("chosen", Output("chosen"), "start"),
        ("owner/name", Model("owner/name"), "start"),
    ):
        found = stages("seft", reviser_init=init)
        assert next(iter(found)) == first
        assert found["preliminary-reviser"].model == found["reviser"].model == source
    assert "start" in stages("seft", init="base", reviser_init="start"), "though no policy starts there"
    assert ready_models(stages("seft", reviser_init="owner/name").values()) == ["owner/name"]


def test_an_untrained_reviser_is_asked_as_it_is() -> None:
    found = stages("seft", reviser_kind="untrained", **ONE_ROUND)
    assert not {"preliminary-reviser", "labels", "reviser"} & set(found)
    assert found["revised-1"].reviser == found["calibration-1"].reviser == Base()
    chosen = stages("seft", reviser_kind="untrained", reviser_init="chosen", **ONE_ROUND)
    assert chosen["revised-1"].reviser == Output("chosen")


def test_a_plain_reviser_is_one_training() -> None:
    found = stages("seft", reviser_kind="plain", copies_share=0.5, **ONE_ROUND)
    assert not {"preliminary-reviser", "labels"} & set(found)
    assert found["reviser"].data == Data("preferences")
    assert found["reviser"].shape == Shape("revisions_and_copies", "Please improve that.", 0.5)


def test_a_reviser_of_own_drafts_learns_what_the_first_drafter_answers() -> None:
    found = stages("seft", reviser_pairs="on_policy", draft_policy="chosen", **ONE_ROUND)
    drafts = found["reviser-drafts"]
    assert (drafts.model, drafts.prompts, drafts.settings.temperature) == (Output("chosen"), Data("preferences"), 0.7)
    assert found["preliminary-reviser"].data == found["labels"].data == Output("reviser-drafts")
    assert found["preliminary-reviser"].shape.poor == found["labels"].poor == "on_policy"
    assert found["reviser"].data == Output("labels"), "whose rows are pairs with the drafts in them already"
    both = stages("aligner", reviser_pairs="both")
    assert (both["reviser"].data, both["reviser"].shape.poor) == (Output("reviser-drafts"), "both")
    assert both["reviser-drafts"].model == Output("start")


def test_evidence_is_drawn_beside_all_that_a_reviser_reads() -> None:
    greedy = {"draft_policy": "chosen", "drafts": {"temperature": 0}, "evidence_temperature": 0.9}
    found = stages("seft", evidence=2, reviser_pairs="on_policy", **greedy, **ONE_ROUND)
    for name, rows in (
        ("reviser-evidence", Output("reviser-drafts")),
        ("evidence-1", Output("drafts-1")),
        ("calibration-evidence-1", Output("calibration-drafts-1")),
    ):
        stage = found[name]
        assert (stage.model, stage.prompts, stage.samples, stage.beside) == (Output("chosen"), rows, 2, True)
        assert stage.settings.temperature == 0.9, "greedy drafts have other drafts beside them"
    assert found["preliminary-reviser"].data == found["labels"].data == Output("reviser-evidence")
    assert found["revised-1"].data == Output("evidence-1")
    assert found["calibration-1"].data == Output("calibration-evidence-1")
    two = stages("seft", evidence=1, evolution="external", rounds=2)
    assert two["evidence-2"].model == Output("policy-1")
    assert two["reviser-evidence"].prompts == Data("preferences")
    untrained = stages("seft", evidence=1, reviser_kind="untrained", **ONE_ROUND)
    assert "evidence-1" in untrained
    assert "reviser-evidence" not in untrained


def test_who_drafts_first_drafts_for_the_calibration_as_well() -> None:
    found = stages("seft", draft_policy="base", evolution="external", rounds=2)
    assert found["drafts-1"].model == found["calibration-drafts-1"].model == Base()
    assert found["drafts-2"].model == found["calibration-drafts-2"].model == Output("policy-1")
    assert found["policy-1"].model == Output("start")


def test_a_policy_that_starts_anew_each_round_gets_all_steps_each_time() -> None:
    found = stages("seft", policy_init="init", evolution="external", rounds=2)
    assert [found[f"policy-{number}"].model for number in (1, 2)] == [Output("start")] * 2
    assert [found[f"policy-{number}"].settings.max_steps for number in (1, 2)] == [150, 150]
    assert found["drafts-2"].model == Output("policy-1")


def test_candidates_are_chosen_by_the_one_who_drafts_and_by_the_base() -> None:
    found = stages("seft", decision="candidates", candidates=4, draft_policy="chosen", **ONE_ROUND)
    assert found["drafts-1"].samples == 4
    assert found["revised-1"].inputs == {
        "data": Output("drafts-1"),
        "reviser": Output("reviser"),
        "policy": Output("chosen"),
        "base": Base(),
    }


def test_realign_takes_on_policy_pairs_beside_the_revised_ones() -> None:
    found = stages("realign", on_policy_pairs=True, pair_samples=6, rounds=1)
    assert found["drafts-1"].samples == 6
    assert found["grades-1"].inputs == {"data": Output("drafts-1"), "model": Base()}
    assert found["policy-1"].shape == Shape("revised_and_on_policy_pairs")
    assert found["policy-1"].inputs["preferences"] == Output("grades-1")
    assert "grades-1" not in stages("realign", rounds=1)


# --- what cannot work is refused


@pytest.mark.parametrize(
    ("method", "settings", "says"),
    [
        ("realign", {"decision": "never"}, "decision: never revises no draft"),
        ("realign", {"good_answers": True}, "good_answers: unknown key"),
        ("realign", {"grader": "rubric"}, "grader: rubric is for on_policy_pairs: true"),
        ("realign", {"on_policy_pairs": True, "drafts": {"temperature": 0}}, "drafts.temperature: 0 makes all samples"),
        ("seft", {"evolution": "internal", "decision": "margin"}, "decision: margin is of external rounds"),
        ("seft", {"drafts": {"temperature": 0}}, "drafts.temperature: 0 makes all samples of a prompt alike"),
        ("seft", {"reviser_kind": "untrained", "decision": "token"}, "decision: token has a decider learn labels"),
        ("seft", {"reviser_kind": "untrained", "label_rule": "annotated"}, "label_rule: annotated is for a reviser"),
        ("seft", {"reviser_kind": "untrained", "copies_share": 0.1}, "copies_share: 0.1 is for a reviser that learns"),
        ("seft", {"reviser_kind": "plain", "label_levels": 2}, "label_levels: 2 is for a reviser that learns it"),
        ("seft", {"decision": "never", "reviser_init": "start"}, "reviser_init: start names a reviser"),
        ("seft", {"candidates": 4}, "candidates: 4 are for decision: candidates, and it is likelihood"),
        ("seft", {"decision": "never", "evidence": 2}, "evidence: 2 is what a reviser sees, and decision: never"),
        ("seft", {"decision": "never", "reviser_pairs": "both"}, "reviser_pairs: both names a reviser"),
        ("seft", {"reviser_kind": "untrained", "reviser_pairs": "both"}, "reviser_pairs: both is for a reviser that"),
        ("seft", {"evidence_temperature": 0.9}, "evidence_temperature: 0.9 is for evidence, and evidence is 0"),
        ("aligner", {"evidence": 2}, "evidence: unknown key"),
        ("realign", {"learn": "kept"}, "learn: unknown key"),
        ("seft", {"decision": "always", "learn": "kept"}, "decision: always keeps no draft, so learn: kept leaves"),
        ("seft", {"decision": "never", "learn": "revised"}, "decision: never revises no draft, so learn: revised"),
        ("seft", {"evolution": "internal", "learn": "kept"}, "learn: kept is of external rounds, and evolution"),
        ("seft", {"evolution": "internal", "weights": "confidence"}, "weights: confidence is of external rounds"),
        ("seft", {"decision": "token", "weights": "confidence"}, "decision: token has none. Give decision: likelihood"),
        ("seft", {"decision": "margin", "margin": 0, "weights": "confidence"}, "measured by the margin, and margin is"),
        (
            "seft",
            {"decision": "candidates", "candidates": 4, "drafts": {"temperature": 0}, **ONE_ROUND},
            "all 4 candidates of a prompt alike",
        ),
    ],
)
def test_settings_that_cannot_work_together_are_refused(method: str, settings: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError) as caught:
        build_stages(method, settings, 1)
    assert f"settings of method {method!r}" in str(caught.value)
    assert says in str(caught.value)


def test_a_reviser_that_is_not_there_is_refused_by_the_key_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown reviser_init 'bse': known are base, chosen, start"):
        open_ready_model("bse", "reviser_init")
    with pytest.raises(InputError, match=f"reviser_init '{tmp_path}' is no checkpoint"):
        open_ready_model(str(tmp_path), "reviser_init")


# --- rows


def user(text: str) -> list[Row]:
    return [{"role": "user", "content": text}]


def test_a_plain_reviser_learns_every_pair_and_a_share_of_copies(tmp_path: Path) -> None:
    pairs = [{"prompt": user(f"q{n}"), "chosen": f"good {n}", "rejected": f"poor {n}"} for n in range(4)]
    write_jsonl(tmp_path / "pairs.jsonl", pairs)
    rows = shape_rows(Shape("revisions_and_copies", "Better!", 0.5), Files(tmp_path / "pairs.jsonl"), seed=0)
    asked = [(row["prompt"][1]["content"], row["prompt"][2]["content"], row["answer"]) for row in rows]
    assert asked[:4] == [(f"poor {n}", "Better!", f"good {n}") for n in range(4)]
    assert len(asked) == 6
    assert all(draft == answer and draft.startswith("good") for draft, _, answer in asked[4:])


REVISED = [
    {"prompt": user("a"), "draft": "da", "revision": "ra", "kept": True, "answer": "da", "confidence": 0.5},
    {"prompt": user("b"), "draft": "db", "revision": "rb", "kept": False, "answer": "rb", "confidence": 0.25},
    {"prompt": user("c"), "draft": "dc", "revision": "rc", "kept": False, "answer": "rc", "confidence": 0.25},
]


def test_a_reviser_learns_own_drafts_and_sees_others(tmp_path: Path) -> None:
    row = {"prompt": user("q"), "chosen": "good", "rejected": "poor", "draft": "own", "other_drafts": ["x", "y"]}
    write_jsonl(tmp_path / "drafts.jsonl", [row])
    rows = shape_rows(Shape("revisions_and_copies", "Better!", 1.0, poor="both"), Files(tmp_path / "drafts.jsonl"), 0)
    assert [([message["content"] for message in row["prompt"]], row["answer"]) for row in rows] == [
        (["q", "x", "q", "y", "q", draft, "Better!"], "good") for draft in ("poor", "own", "good", "good")
    ]
    write_jsonl(tmp_path / "labelled.jsonl", [{**row, "label": "major_revise"}])
    for name in ("labelled_revisions", "labels"):
        for made in shape_rows(Shape(name, "Better!", 1.0), Files(tmp_path / "labelled.jsonl"), seed=0):
            assert [message["content"] for message in made["prompt"][:4]] == ["q", "x", "q", "y"]


def test_only_kept_or_only_revised_drafts_are_learnt(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "revised.jsonl", REVISED)
    write_jsonl(tmp_path / "pairs.jsonl", [{"prompt": user("p"), "chosen": "good", "rejected": "poor"}])
    files = Files(tmp_path / "revised.jsonl", tmp_path / "pairs.jsonl")

    def learnt(learn: Learnt) -> list[str]:
        return [row["answer"] for row in shape_rows(Shape("drafts", learn=learn), files, seed=0)]

    assert (learnt("kept"), learnt("revised")) == (["da", "good"], ["rb", "rc", "good"])
    write_jsonl(tmp_path / "revised.jsonl", REVISED[1:])
    with pytest.raises(InputError, match=r"learn: kept leaves nothing to learn: all 2 drafts of .* were revised"):
        learnt("kept")
    write_jsonl(tmp_path / "revised.jsonl", [{**row, "from_reviser": row["kept"]} for row in REVISED])
    assert learnt("revised") == ["da", "good"], "of candidates a revision is what a reviser wrote"


def test_rows_are_weighted_by_confidence_to_a_mean_of_one(tmp_path: Path) -> None:
    """Confidences .5, .25, .25 and the good answer's 1 have the mean .5; without the weighting no row has a weight."""
    write_jsonl(tmp_path / "revised.jsonl", REVISED)
    write_jsonl(tmp_path / "pairs.jsonl", [{"prompt": user("p"), "chosen": "good", "rejected": "poor"}])
    files = Files(tmp_path / "revised.jsonl", tmp_path / "pairs.jsonl")
    assert [row["weight"] for row in shape_rows(Shape("drafts", weighted=True), files, seed=0)] == [1.0, 0.5, 0.5, 2.0]
    assert not any("weight" in row for row in shape_rows(Shape("drafts"), files, seed=0))


def test_only_external_rounds_are_weighted_and_cut() -> None:
    found = stages("seft", weights="confidence", learn="kept", decision="margin")
    assert found["policy-1"].shape == Shape("drafts"), "the first round is internal: its drafts are neither"
    assert found["policy-2"].shape == Shape("drafts", learn="kept", weighted=True)
    assert (found["revised-1"].confident, found["revised-2"].confident) == (False, True)


def test_good_answers_and_on_policy_pairs_come_behind_what_was_revised(tmp_path: Path) -> None:
    revised = {"prompt": user("q"), "draft": "d", "revision": "r", "kept": False, "answer": "r"}
    write_jsonl(tmp_path / "revised.jsonl", [revised, {**revised, "kept": True, "answer": "d"}])
    write_jsonl(tmp_path / "pairs.jsonl", [{"prompt": user("p"), "chosen": "good", "rejected": "poor"}])
    write_jsonl(
        tmp_path / "graded.jsonl", [{"prompt": user("q"), "samples": ["a", "b", "c"], "grades": [2.0, 3.0, 1.0]}]
    )
    learnt = shape_rows(Shape("drafts"), Files(tmp_path / "revised.jsonl", tmp_path / "pairs.jsonl"), seed=0)
    assert [row["answer"] for row in learnt] == ["r", "d", "good"]
    files = Files(tmp_path / "revised.jsonl", tmp_path / "graded.jsonl")
    pairs = shape_rows(Shape("revised_and_on_policy_pairs"), files, seed=0)
    assert [(row["chosen"], row["rejected"]) for row in pairs] == [("r", "d"), ("b", "c")]


# --- candidates, with likelihoods that a test writes down


@dataclass(frozen=True)
class WrittenDown:
    """An engine whose reviser turns drafts into what a dict says, and whose models find texts as likely as another."""

    revisions: dict[str, str]
    likelihoods: dict[tuple[str, str], float]
    asked: list[Sequence[Row]]

    def generator(self, model: Path, batch_size: int) -> WrittenDown:
        assert model.name == "reviser"
        return self

    def complete(self, conversations: Sequence[Sequence[Row]], samplings: object, limit: int, seed: int) -> list[Any]:
        from seft_bench.generators.conversations import Completion

        self.asked.extend(conversations)
        return [Completion(self.revisions[asked[-2]["content"]], "stop", 1, 3) for asked in conversations]

    def score(self, model: Path, lists: Sequence[Answered]) -> list[list[AnswerLogprob]]:
        return [[AnswerLogprob(2 * self.likelihoods[model.name, text], 2) for _, text in part] for part in lists]


def test_the_likeliest_of_samples_and_revisions_under_policy_and_base_is_taken(tmp_path: Path) -> None:
    """First prompt: b's revision B (-1 - 1); second: the sample d, alike with its revision; never the empty text."""
    write_jsonl(
        tmp_path / "drafts.jsonl",
        [
            {"prompt": user("one"), "draft": "a", "samples": ["a", "b"]},
            {"prompt": user("two"), "draft": "c", "samples": ["c", "d"]},
        ],
    )
    policy = {"a": -2.0, "b": -3.0, "A": -4.0, "B": -1.0, "c": -5.0, "d": -1.0, "": math.nan}
    base = {"a": -1.0, "b": -1.0, "A": -1.0, "B": -1.0, "c": -1.0, "d": -0.5, "": math.nan}
    found = {("policy", text): value for text, value in policy.items()}
    found |= {("base", text): value for text, value in base.items()}
    engine = WrittenDown({"a": "A", "b": "B", "c": "", "d": "d"}, found, [])
    stage = Revise(
        "revised-1",
        Output("drafts-1"),
        "candidates",
        Revising("mode", "Better!", 8, 4),
        reviser=Output("reviser"),
        likelihoods=(Output("policy"), Base()),
    )
    places = {"drafts-1": "drafts.jsonl"}
    find = cast(
        "Find", lambda source: tmp_path / places.get(getattr(source, "stage", "base"), str(source).split(":")[-1])
    )
    shop = Workshop(tmp_path, tmp_path, tmp_path, 0, engine=cast("Engine", engine))
    record = run_revise(stage, find, tmp_path, shop)
    rows = read_jsonl(tmp_path / "revised.jsonl")
    assert [(row["answer"], row["kept"], row["from_reviser"]) for row in rows] == [
        ("B", False, True),
        ("d", False, False),
    ]
    assert (record["diagnostics"]["from_reviser"], record["tokens_generated"]) == (0.5, 12)
    assert engine.asked[1] == revision_prompt(user("one"), "b", "Better!")


# --- the matrix


def test_every_knob_is_a_row_of_its_own_matrix_and_no_two_rows_are_one() -> None:
    matrix = load_matrix("seft")
    plans = {row.name: build_stages(row.method, row.settings, matrix.checkpoints) for row in matrix.rows}
    same = [(one, other) for one, other in combinations(plans, 2) if plans[one] == plans[other]]
    assert not same
    asked = {key for row in matrix.rows if row.method in ("seft", "realign") for key in row.settings}
    learnt_elsewhere = {"start", "decider", "teacher", "margin", "max_poor_kept", "beta", "pair_samples"}
    learnt_elsewhere |= {"evidence_temperature", "grader", "min_graded_share", "reward_model", "centering"}
    assert asked | learnt_elsewhere == {*SeftSettings.model_fields, *RealignSettings.model_fields}
