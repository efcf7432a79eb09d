"""Stages: names of their folders, and sampling that goes on where it was killed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seft_bench.errors import InputError
from seft_bench.files import read_jsonl, sha256_json, write_jsonl
from seft_bench.records import Base, Data, Source
from seft_bench.stages import Workshop, folder_name, run_stage, sample, stage_identity
from tests.tiny_model import make_tiny_model
from training.methods import METHODS, build_stages
from training.settings import DraftSettings, TrainSettings
from training.stages import Part, Sample, Shape, Stage, Train

SETTINGS = DraftSettings(temperature=1.0, top_p=1.0, max_new_tokens=6, batch_size=4)
STAGE = Sample("drafts", Base(), Data("prompts"), SETTINGS, samples=2)


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    write_jsonl(
        tmp_path / "data" / "prompts.jsonl",
        [{"prompt": [{"role": "user", "content": f"What is {index}?"}]} for index in range(7)],
    )
    return Workshop(tmp_path / "stages", make_tiny_model(tmp_path / "model"), tmp_path / "data", seed=0)


def test_a_killed_sampling_goes_on_to_the_same_drafts(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample, "PROMPTS_AT_ONCE", 3)
    whole = read_jsonl(run_stage(STAGE, {}, shop).folder / "drafts.jsonl")
    killed = Workshop(
        tmp_path / "killed", shop.base, shop.data, 0, progress=lambda what, done, total: pytest.fail("killed")
    )
    with pytest.raises(pytest.fail.Exception):
        run_stage(STAGE, {}, killed)
    (folder,) = (tmp_path / "killed").glob("drafts-*")
    assert len(read_jsonl(folder / "sampled.jsonl")) == 3
    seen: list[int] = []
    again = Workshop(tmp_path / "killed", shop.base, shop.data, 0, progress=lambda what, done, total: seen.append(done))
    assert read_jsonl(run_stage(STAGE, {}, again).folder / "drafts.jsonl") == whole
    assert seen == [6, 7]  # the first three were not drawn again
    assert [len(row["samples"]) for row in whole] == [2] * 7


def test_everything_that_decides_the_outcome_is_in_the_folders_name(shop: Workshop, tmp_path: Path) -> None:
    def folder(stage: Stage = STAGE, **changes: Any) -> str:
        return run_stage(
            stage,
            {},
            Workshop(**{**{name: getattr(shop, name) for name in ("folder", "base", "data", "seed")}, **changes}),
        ).folder.name

    first = folder()
    assert folder() == first
    assert folder(seed=1) != first
    assert folder(replace(STAGE, settings=SETTINGS.model_copy(update={"temperature": 0.5}))) != first
    assert folder(base=make_tiny_model(tmp_path / "other", seed=1)) != first
    write_jsonl(tmp_path / "more" / "prompts.jsonl", [{"prompt": [{"role": "user", "content": "q"}]}])
    assert folder(data=tmp_path / "more") != first


def test_a_round_without_prompts_is_refused(shop: Workshop) -> None:
    with pytest.raises(InputError, match="round 9 of 9 has no prompts left: there are 7"):
        run_stage(replace(STAGE, part=Part(8, 9)), {}, shop)


def test_a_missing_data_set_names_what_is_there(shop: Workshop) -> None:
    start = Train("start", Base(), Data("sft"), Shape("answers"), TrainSettings(learning_rate=1e-3, epochs=1))
    with pytest.raises(InputError, match=r"data set 'sft' not found.*prompts\.jsonl"):
        run_stage(start, {}, shop)


# --- names of folders, which old runs are resumed by


def folder_names(
    method: str, settings: dict[str, Any], checkpoints: int = 2, seed: int = 0, judge: str | None = None
) -> list[str]:
    """Names of a method's folders, over a base and data sets with made-up fingerprints."""
    names: dict[str, str] = {}

    def fingerprint(source: Source) -> str:
        made_up = {"base": "fingerprint of the base", "data": f"fingerprint of {str(source).partition(':')[2]}"}
        return made_up.get(str(source).partition(":")[0]) or names[str(source).removeprefix("stage:")]

    asked = {"instruction": "Please revise the answer."} if method in ("seft", "realign", "aligner") else {}
    for stage in build_stages(method, asked | settings, checkpoints):  # the default instruction of those runs
        names[stage.name] = folder_name(stage, stage_identity(stage, fingerprint, seed, judge))
    return list(names.values())


PINNED: list[tuple[str, dict[str, Any], str]] = [
    ("pretrain", {}, "base-c8a6a51d72"),
    ("sft", {}, "start-9faf794af7"),
    ("sft-chosen", {}, "chosen-8eb33c3d75"),
    ("dpo", {}, "dpo-8cae862668"),
    (
        "dpo",
        {"beta": 0.3, "policy": {"epochs": 2, "precision": "mixed", "adam_betas": [0.9, 0.98]}},
        "dpo-6ed4dbdb16",
    ),
    ("orpo", {}, "orpo-345ab73f43"),
    ("orpo", {"init": "start"}, "orpo-3df552862d"),
    ("seft", {}, "policy-2-f265d918ce"),
    ("seft", {"decision": "token"}, "policy-2-bd171219d0"),
    ("seft", {"decision": "always"}, "policy-2-85de83db20"),
    ("seft", {"label_rule": "annotated"}, "policy-2-1f5e1ff4f0"),
    ("seft", {"decision": "margin"}, "policy-2-cb907878b8"),
    ("seft", {"decision": "margin", "margin": -0.5}, "policy-2-ea2e431679"),
    ("seft", {"decision": "never"}, "policy-2-adb54b7d76"),
    ("seft", {"statistic": "keep", "label_levels": 2, "copies_share": 0}, "policy-2-f4509de488"),
    ("seft", {"evolution": "external", "rounds": 3, "prompts": 1200}, "policy-3-985787cc0c"),
    (
        "seft",
        {"evolution": "internal", "rounds": 1, "decision": "token", "instruction": "Improve it."},
        "policy-1-d158b889e3",
    ),
    ("seft", {"drafts": {"max_new_tokens": 32, "top_p": 0.9}, "policy": {"epochs": 1}}, "policy-2-456b6b9bb9"),
    ("self-label", {}, "self-label-acc163c990"),
    ("self-label", {"prompts": 600}, "self-label-805f966b20"),
    ("dpo-hinge", {}, "dpo-hinge-5efabe9643"),
    ("dpo-robust", {}, "dpo-robust-da6c3d49fd"),
    ("dpo-exo", {}, "dpo-exo-752594531c"),
    ("dpo-norm", {}, "dpo-norm-26ea5f18ff"),
    ("r-dpo", {}, "r-dpo-88098562e5"),
    ("ld-dpo", {}, "ld-dpo-8583923904"),
    ("ipo", {}, "ipo-c17325113e"),
    ("ipo-mean", {}, "ipo-mean-d359d66946"),
    ("apo-zero", {}, "apo-zero-aceb310dfd"),
    ("apo-down", {}, "apo-down-cbd66005e2"),
    ("nca", {}, "nca-0d0cda55eb"),
    ("sppo", {}, "sppo-ce00566d4d"),
    ("discopop", {}, "discopop-4685314640"),
    ("cpo", {}, "cpo-519ee18949"),
    ("simpo", {}, "simpo-42556e70eb"),
    ("simpo", {"gamma_beta_ratio": 0}, "simpo-3a2e048602"),
    ("slic", {}, "slic-dbba250b52"),
    ("kto", {}, "kto-9f227272cb"),
    ("kto", {"labels": "unpaired"}, "kto-c217a93c2e"),
    ("apo-zero-labelled", {}, "apo-zero-labelled-099e5287ec"),
    ("dpo", {"nll_weight": 1}, "dpo-2343974ac5"),
    ("best-of-n", {}, "policy-2-457b2cded3"),
    ("best-of-n", {"keep": "above", "min_grade": -1.5}, "policy-2-6e18ca9463"),
    ("iterative-dpo", {}, "policy-2-1f417014f5"),
    ("iterative-dpo", {"reference": "start"}, "policy-2-2f8ec15e64"),
    ("self-rewarding", {}, "policy-2-0955f3f355"),
    ("self-rewarding", {"judge": "prompt"}, "policy-2-5a8b9f8946"),
    ("spin", {}, "policy-2-b5877bb151"),
    ("realign", {}, "policy-2-e5848d88ab"),
    ("realign", {"decision": "always"}, "policy-2-157b5dfa16"),
    ("seft", {"reviser_kind": "plain", "evolution": "external"}, "policy-2-41618ed8d6"),
    (
        "seft",
        {"reviser_kind": "untrained", "reviser_init": "start", "instruction": "Please improve that."},
        "policy-2-a4a8e4be54",
    ),
    ("seft", {"draft_policy": "chosen", "good_answers": True, "policy_init": "init"}, "policy-2-186158ac3d"),
    ("seft", {"decision": "candidates", "candidates": 4, "evolution": "external", "rounds": 1}, "policy-1-de2f05f89b"),
    ("realign", {"on_policy_pairs": True}, "policy-2-4549346c30"),
    ("grpo", {}, "grpo-a8e5b37d1b"),
    ("grpo", {"beta": 0.1, "loss_type": "dr_grpo", "scale_rewards": "none"}, "grpo-6d3fa2f301"),
    ("rloo", {}, "rloo-870d8f7241"),
    ("rloo", {"grader": "rubric", "prompts": 600}, "rloo-2b0b474e66"),
    ("reward-model", {}, "reward-model-578541709c"),
    ("reward-model", {"centering": 0}, "reward-model-a0a37ef012"),
    ("aligner", {}, "aligner-5191a7c2ef"),
    ("aligner", {"reviser_kind": "adaptive", "decision": "token", "draft_policy": "chosen"}, "aligner-732aaf64d2"),
    ("best-of-n", {"grader": "trained-reward-model"}, "policy-2-f767265d2b"),
    ("iterative-dpo", {"grader": "trained-reward-model"}, "policy-2-045c8be3bd"),
    ("realign", {"on_policy_pairs": True, "grader": "trained-reward-model"}, "policy-2-faf311c8e5"),
    ("grpo", {"grader": "trained-reward-model"}, "grpo-958155e4bd"),
]
"""Method, settings, and the folder of its last stage, whose name covers those of the stages that it builds on.

Folders of earlier runs must be found again: a hash here changes only together with `FORMAT` (these are of format 2, in
which `dtype` became `precision` and answers of real models are cut into the tokens that their templates write).
"""


@pytest.mark.parametrize(("method", "settings", "last"), PINNED)
def test_folders_keep_the_names_that_old_runs_gave_them(method: str, settings: dict[str, Any], last: str) -> None:
    assert folder_names(method, settings)[-1] == last


def test_the_names_of_all_stages_of_seft_stay() -> None:
    assert folder_names("seft", {}) == [
        "start-9faf794af7",
        "preliminary-reviser-d9276008d3",
        "labels-dca778dcf1",
        "reviser-58424be655",
        "drafts-1-80832850e1",
        "revised-1-1288634bee",
        "policy-1-9f58471542",
        "drafts-2-9257be9d42",
        "calibration-drafts-2-0753681326",
        "calibration-2-0c31be2e04",
        "revised-2-c241ca2039",
        "policy-2-f265d918ce",
    ]
    assert "decider-c2b9f7ec7e" in folder_names("seft", {"decision": "token"})
    assert folder_names("seft", {}, checkpoints=1, seed=3, judge="rubric")[-1] == "policy-2-a6caf88da2"


def test_every_method_is_among_the_pinned_ones() -> None:
    assert {method for method, _, _ in PINNED} == set(METHODS)


@pytest.mark.parametrize(
    ("method", "digest"),
    [
        ("sft", "48958c25e26f0efa807ad7f14d29f347d748532f16e1861cef98c5370afedefc"),
        ("dpo", "5c511f645e2d64c6ae9f8fd0229b097c622471ac08e50939481eb25aa28be315"),
        ("seft", "221eb98a266e3ca8d6dcf69043581b51f80377f3c4c9dfbc20408554eefe8dda"),
    ],
)
def test_a_training_run_keeps_the_settings_that_it_is_recognised_by(method: str, digest: str) -> None:
    """Of the last stage at seed 4, of format 2 as the hashes above."""
    policy = build_stages(method, {}, 2)[-1]
    assert policy.kind == "train"
    assert sha256_json(policy.job(seed=4).as_row()) == digest
