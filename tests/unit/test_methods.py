"""Methods as lists of stages: their inputs, their order, and settings laid over defaults."""

from __future__ import annotations

from typing import Any

import pytest

from seft_bench.errors import InputError
from seft_bench.records import Base, Data, Model, Output, Source
from training.methods import METHODS, build_stages, merge_settings
from training.stages import Part, data_sets, reads_base, ready_models


def stages(method: str, **settings: object) -> dict[str, Any]:
    """Name -> stage; a test knows the kind of the ones that it looks into."""
    return {stage.name: stage for stage in build_stages(method, settings, checkpoints=2)}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_stage_reads_only_the_base_data_and_earlier_stages(name: str) -> None:
    seen: set[str] = set()
    for stage in build_stages(name, {}, checkpoints=1):
        for source in stage.inputs.values():
            assert isinstance(source, Data) or source in {Base(), *map(Output, seen)}, (stage.name, source)
        seen.add(stage.name)


def test_every_method_ends_by_making_what_is_evaluated() -> None:
    for name in METHODS:
        last = build_stages(name, {}, checkpoints=2)[-1]
        assert (last.kind, getattr(last, "checkpoints", 2)) == ("pair" if name == "aligner" else "train", 2)


def test_seft_trains_its_policy_on_no_annotated_data() -> None:
    found = stages("seft")
    assert found["policy-1"].inputs == {"model": Output("start"), "data": Output("revised-1")}
    assert found["policy-2"].inputs == {"model": Output("policy-1"), "data": Output("revised-2")}
    assert found["drafts-1"].prompts == Data("prompts")


def test_calibration_uses_prompts_that_no_policy_is_trained_on() -> None:
    for method in METHODS:
        for stage in build_stages(method, {}, checkpoints=1):
            if stage.kind == "train":
                assert Data("calibration") not in stage.inputs.values()
    assert stages("seft")["calibration-drafts-2"].prompts == Data("calibration")


def test_always_rewrite_differs_from_seft_in_the_decision_alone() -> None:
    seft, ablation = stages("seft"), stages("seft", decision="always")
    assert ablation["reviser"] == seft["reviser"]
    assert ablation["drafts-1"] == seft["drafts-1"]
    assert set(seft) - set(ablation) == {"calibration-drafts-2", "calibration-2"}


def test_a_margin_needs_no_calibration() -> None:
    found = stages("seft", decision="margin", margin=-0.3, evolution="external", rounds=2)
    assert [found[f"revised-{number}"].margin for number in (1, 2)] == [-0.3, -0.3]
    assert not any(name.startswith("calibration") for name in found)
    assert stages("seft", margin=-0.3)["revised-2"].margin is None, "the threshold of a calibration decides there"


def test_own_drafts_need_no_reviser() -> None:
    assert set(stages("seft", decision="never", rounds=1)) == {"start", "drafts-1", "revised-1", "policy-1"}


def test_the_token_decision_is_a_second_stage_in_a_copy_of_the_reviser() -> None:
    found = stages("seft", decision="token")
    assert found["decider"].model == Output("reviser")
    assert found["revised-2"].decider == Output("decider")


def test_rounds_share_the_steps_and_split_the_prompts() -> None:
    found = stages("seft", rounds=3, evolution="external")
    assert sum(found[f"policy-{number}"].settings.max_steps for number in (1, 2, 3)) == 150
    assert [found[f"drafts-{number}"].part for number in (1, 2, 3)] == [Part(0, 3), Part(1, 3), Part(2, 3)]
    assert found["calibration-3"].data == Output("calibration-drafts-3")
    assert found["policy-3"].model == Output("policy-2")


def test_internal_evolution_comes_before_external() -> None:
    found = stages("seft", evolution="internal_then_external", rounds=2)
    assert found["revised-1"].decision == "best_sample"
    assert found["drafts-1"].samples > 1
    assert "calibration-1" not in found
    assert found["revised-2"].decision == "likelihood"
    assert found["drafts-2"].samples == 1


def test_settings_that_are_given_keep_the_other_defaults() -> None:
    assert stages("sft", start={"learning_rate": 2e-4})["start"].settings.epochs == 3


def test_steps_that_are_given_take_the_default_epochs_away() -> None:
    assert merge_settings({"epochs": 3, "learning_rate": 1}, {"max_steps": 7}) == {"learning_rate": 1, "max_steps": 7}


def test_wrong_settings_are_all_named_at_once() -> None:
    with pytest.raises(InputError) as caught:
        build_stages("seft", {"rounds": 0, "decison": "likelihood"}, 1)
    assert "rounds" in str(caught.value)
    assert "decison: unknown key; allowed are" in str(caught.value)


def test_a_training_that_would_never_or_twice_end_is_refused_before_anything_runs() -> None:
    for given in ({"epochs": 1, "max_steps": 5}, {"epochs": None}):
        with pytest.raises(InputError, match="start: give exactly one of epochs and max_steps, got epochs="):
            build_stages("sft", {"start": given}, 1)


def test_an_unknown_method_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"known are .*dpo, .*orpo, .*seft"):
        build_stages("ppo", {}, 1)


def test_training_holds_for_every_training_stage_that_says_nothing_else() -> None:
    found = stages(
        "seft", training={"epochs": 2, "precision": "mixed"}, policy={"max_steps": 10}, reviser={"precision": "float32"}
    )
    trained = {name: stage.settings for name, stage in found.items() if stage.kind == "train"}
    assert {name: settings.precision for name, settings in trained.items()} == {
        "start": "mixed",
        "preliminary-reviser": "mixed",
        "reviser": "float32",
        "policy-1": "mixed",
        "policy-2": "mixed",
    }
    assert [trained[name].epochs for name in ("start", "reviser")] == [2, 2]
    assert (trained["policy-1"].epochs, trained["policy-1"].max_steps) == (None, 5)
    assert stages("seft", training={}) == stages("seft")


@pytest.mark.parametrize(
    ("given", "says"), [({"rank": 8}, "unknown key rank; allowed are adam_betas"), (3, "a mapping is expected, got 3")]
)
def test_training_settings_that_no_stage_knows_are_refused(given: object, says: str) -> None:
    with pytest.raises(InputError, match=rf"settings\.training: {says}"):
        stages("dpo", training=given)


STARTING = ("sft-chosen", "dpo", "orpo", "seft", "self-label")


@pytest.mark.parametrize("name", STARTING)
@pytest.mark.parametrize(
    ("init", "source"), [("base", Base()), ("start", Output("start")), ("path/to/model", Model("path/to/model"))]
)
def test_every_policy_starts_where_init_says(name: str, init: str, source: Source) -> None:
    """Elsewhere than at the start none is trained, its data is not read, and DPO's reference is that model."""
    found = stages(name, init=init)
    assert ("start" in found) == ("sft" in data_sets(found.values())) == (init == "start")
    policy = found.get("policy-1") or list(found.values())[-1]
    assert policy.model == source
    assert policy.reference == (source if name == "dpo" else None)


def test_sft_starts_from_the_base_or_from_a_ready_model() -> None:
    for init, source in (("start", Base()), ("base", Base()), ("owner/name", Model("owner/name"))):
        [only] = stages("sft", init=init).values()
        assert (only.name, only.model) == ("start", source)


def test_ready_models_and_bases_are_told_apart() -> None:
    assert ready_models(stages("dpo", init="owner/name").values()) == ["owner/name"]
    assert not reads_base(stages("dpo", init="owner/name").values())
    assert reads_base(stages("seft", init="owner/name").values())  # its reviser starts from the base
    assert ready_models(stages("seft", init="base").values()) == []
