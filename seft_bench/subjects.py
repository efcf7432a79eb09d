"""Subjects of an evaluation: models that can answer and files of ready answers, from a user's MODEL arguments."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from seft_bench.checkpoints import ALIGNER, check_adapter, fingerprint, is_adapter, is_aligner, is_checkpoint
from seft_bench.checkpoints.aligners import Aligner, aligner_fingerprint, read_aligner
from seft_bench.checkpoints.classifiers import check_writes
from seft_bench.checkpoints.steps import checkpoints_below
from seft_bench.config import ServedModelConfig
from seft_bench.data.training import open_ready_model
from seft_bench.errors import InputError
from seft_bench.files import check_safetensors, read_json, sha256_file, sha256_json
from seft_bench.generators import Generator
from seft_bench.inference.prices import NO_SERVER, Price, server_price
from seft_bench.records import Question, RunFacts
from seft_bench.stages.aligners import aligner_generator, find_corrector, open_corrector
from seft_bench.stages.runs import checkpoint_name, run_facts

if TYPE_CHECKING:
    from seft_bench.generators.conversations import ConversationGenerator

CONTROL_PREFIX, ALIGNER_PREFIX = "control:", "aligner:"


@dataclass(frozen=True)
class Subject:
    """A model that can answer, or a file of ready answers, to be evaluated.

    Attributes:
        model_id: its name in tables.
        fingerprint: hash of the weights, or of the answers' file.
        open_generator: loads it; called only when answers are missing.
        run: the training run behind it, see `Result.run`.
        server: base URL of the server behind which it answers; "" where no server does.
        server_key_env: NAME of the variable with its key.
        server_settings: what is sent otherwise than by default, and can change an answer.
        price: of the server's tokens.
        folder: its checkpoint, where it is one.
        engine: what answers for it, if not our own generator ("vllm 0.32.0").
        notes_on: what of a file of answers does not fit these questions.
        reasoning: "strip" or "keep", instead of what its decodings say; "" leaves that.
        template_args: what its chat template is told, beside what its decodings say.
        is_pair: two models of this process answer, a policy and a reviser; no engine does.
    """

    model_id: str
    fingerprint: str
    open_generator: Callable[[], Generator]
    run: RunFacts | None = None
    ready: bool = False
    server: str = ""
    folder: Path | None = None
    engine: str = ""
    server_key_env: str | None = None
    server_settings: Mapping[str, Any] = field(default_factory=dict)
    price: Price = NO_SERVER
    notes_on: Callable[[Sequence[Question]], Sequence[str]] = lambda questions: ()
    reasoning: Literal["", "strip", "keep"] = ""
    template_args: Mapping[str, Any] = field(default_factory=dict)
    is_pair: bool = False


def checkpoint_subject(
    folder: Path, model_id: str, run: RunFacts | None = None, trust_remote_code: bool = False
) -> Subject:
    """A checkpoint folder, an adapter's or an aligner's as a subject; weights are read when answers are missing."""
    load = partial(open_checkpoint, folder, model_id, trust_remote_code)
    is_pair = is_aligner(folder)
    return Subject(model_id, fingerprint(folder), load, run, folder=None if is_pair else folder, is_pair=is_pair)


def open_checkpoint(folder: Path, model_id: str, trust_remote_code: bool = False) -> ConversationGenerator:
    """Open what answers for a checkpoint; an aligner's models are loaded when it is first asked."""
    from seft_bench.generators.transformers import TransformersGenerator

    if is_aligner(folder):
        return aligner_generator(model_id, read_aligner(folder), trust_remote_code)
    return TransformersGenerator(folder, model_id, trust_remote_code=trust_remote_code)


def all_runs(runs: Path) -> list[str]:
    """Every folder below `runs` that holds a finished training run."""
    found = sorted(
        {str(path.parent) for path in runs.glob("**/checkpoints") if (path.parent / "manifest.json").exists()}
    )
    if not found:
        raise InputError(
            f"no checkpoints under {runs}/. Train some (`seft-bench train`), or name a MODEL: checkpoint folder, hub "
            "id, or file of answers."
        )
    return found


def find_subjects(model: str, trust_remote_code: bool = False) -> list[Subject]:
    """Find what a MODEL argument stands for.

    A control, a file of answers, a checkpoint, a run or folder of checkpoints, or a hub id.

    Raises:
        InputError: there is nothing of the kind.
    """
    if model.startswith(CONTROL_PREFIX):
        return [control_subject(model)]
    if model.startswith(ALIGNER_PREFIX):
        return aligner_subjects(model, trust_remote_code)
    path = Path(model)
    if path.name == ALIGNER and path.is_file():
        path = path.parent
    if path.is_file():
        return _ready_answers(path)
    if is_checkpoint(path):
        return [_checkpoint(path, trust_remote_code)]
    if path.is_dir():
        return _checkpoints_below(path, trust_remote_code)
    if model.startswith((".", "/")) or model.count("/") != 1:
        raise InputError(
            f"model {model!r} not found: it is no file of answers, no checkpoint folder, and no hub id (owner/name)"
        )
    return [_from_hub(model, trust_remote_code)]


def _checkpoints_below(folder: Path, trust_remote_code: bool) -> list[Subject]:
    found = checkpoints_below(folder)
    if not found:
        there = ", ".join(sorted(child.name for child in folder.iterdir())[:12]) or "nothing"
        raise InputError(
            f"no checkpoint in {folder}: a checkpoint is a folder with config.json, model.safetensors and tokenizer, "
            f"or an adapter of peft's with adapter_config.json and adapter_model.safetensors. It holds: {there}"
        )
    return [_checkpoint(child, trust_remote_code) for child in found]


def _checkpoint(folder: Path, trust_remote_code: bool) -> Subject:
    """A checkpoint; one of our runs is named by run and step, and knows its training."""
    if is_aligner(folder):
        aligner = read_aligner(folder)
        for model in filter(None, (aligner.policy, aligner.reviser, aligner.decider)):
            _check_model(model, trust_remote_code)
    else:
        _check_model(folder, trust_remote_code)
    run = folder.parent.parent
    is_of_run = folder.parent.name == "checkpoints" and (run / "manifest.json").is_file()
    facts = _run_facts(run, folder) if is_of_run else None
    return checkpoint_subject(folder, checkpoint_name(folder), facts, trust_remote_code)


def _check_model(folder: Path, trust_remote_code: bool) -> None:
    """Refuse now, before anything runs, a model without tokenizer or chat template, or whose weights are pickled."""
    from seft_bench.chat import load_tokenizer

    check_writes(folder, "model")
    load_tokenizer(folder, trust_remote_code)
    check_adapter(folder) if is_adapter(folder) else check_safetensors(folder)


def _run_facts(run: Path, checkpoint: Path) -> RunFacts:
    manifest = read_json(run / "manifest.json", "manifest of a run")
    config, cost = manifest["config"], manifest["cost"]
    return run_facts(
        config["name"],
        config["name"],
        "method",
        config,
        cost,
        checkpoint.name,
        checkpoint.name == manifest["checkpoints"][-1],
    )


def _from_hub(name: str, trust_remote_code: bool) -> Subject:
    from seft_bench.data.training import open_base

    folder = open_base(name, "model")
    check_writes(folder, f"model {name}:")
    return checkpoint_subject(folder, name, None, trust_remote_code)


def _ready_answers(path: Path) -> list[Subject]:
    """One subject for each model in a file of answers."""
    from seft_bench.generators.recorded import ReadyGenerator, models_in

    digest = sha256_file(path)  # with the name, as two names can be one as a folder's ("a/b", "a-b")
    return [
        Subject(
            model,
            sha256_json([digest, model]),
            partial(ReadyGenerator, path, model),
            ready=True,
            notes_on=partial(_notes_on, path, model),
        )
        for model in models_in(path)
    ]


def _notes_on(path: Path, model: str, questions: Sequence[Question]) -> Sequence[str]:
    from seft_bench.generators.recorded import ReadyGenerator

    return ReadyGenerator(path, model).notes_on(questions)


def aligner_subjects(name: str, trust_remote_code: bool = False) -> list[Subject]:
    """Find the aligner that `aligner:POLICY+REVISER` names; one for each model where POLICY is a file of answers.

    REVISER is a model, or an aligner: its reviser, instruction and decision are then put over the other policy.

    Raises:
        InputError: one of the two is not there.
    """
    policy, plus, reviser = name.removeprefix(ALIGNER_PREFIX).rpartition("+")
    if not (plus and policy and reviser):
        raise InputError(f"{name!r} names no two models: write {ALIGNER_PREFIX}POLICY+REVISER")
    corrector, label = find_corrector(reviser)
    _check_model(corrector.reviser, trust_remote_code)
    if Path(policy).is_file():
        return [_revised_answers(answers, corrector, label) for answers in _ready_answers(Path(policy))]
    aligner = dataclasses.replace(corrector, policy=open_ready_model(policy, "policy of an aligner"))
    _check_model(aligner.policy, trust_remote_code)
    model_id = f"{checkpoint_name(aligner.policy) if Path(policy).exists() else policy}+{label}"
    load = partial(aligner_generator, model_id, aligner, trust_remote_code)
    return [Subject(model_id, aligner.fingerprint, load, is_pair=True)]


def _revised_answers(answers: Subject, corrector: Aligner, label: str) -> Subject:
    """A reviser over one model's ready answers."""
    from seft_bench.generators.recorded import ReadyGenerator
    from seft_bench.generators.revised import RevisedAnswers

    model_id = f"{answers.model_id}+{label}"

    def load() -> Generator:
        ready = answers.open_generator()
        assert isinstance(ready, ReadyGenerator)
        return RevisedAnswers(model_id, ready, partial(open_corrector, corrector))

    def notes_on(questions: Sequence[Question]) -> Sequence[str]:
        several = any(len(question.turns) > 1 for question in questions)
        return [*answers.notes_on(questions), *([LATER_TURNS] if several else [])]

    digest = aligner_fingerprint(answers.fingerprint, corrector)
    return Subject(model_id, digest, load, ready=True, notes_on=notes_on, is_pair=True)


LATER_TURNS = "recorded answers were revised: later turns were written to the earlier answers as they were"


def control_subject(name: str) -> Subject:
    """A control by its name, with or without "control:".

    Raises:
        InputError: no control of that name.
    """
    from seft_bench.generators.controls import ControlGenerator, fingerprint

    control = name.removeprefix(CONTROL_PREFIX)
    return Subject(
        CONTROL_PREFIX + control, fingerprint(control), lambda: ControlGenerator(control), _control_facts(control)
    )


def _control_facts(control: str) -> RunFacts:
    """`Result.run` of a control: no training, so no step, no seed that would matter, and no cost."""
    from seft_bench.generators.controls import CONTROLS

    name = CONTROL_PREFIX + control
    return RunFacts(name, CONTROLS[control], "control", name, seed=0, step=0, final=True, control=control)


def served_subject(model: str, server: ServedModelConfig, store: Path | None, ask: bool) -> Subject:
    """A model behind a server.

    One without a key is asked which weights it serves now, so that their answers lie in a folder of their own; so do
    answers that were asked for with other settings.

    Args:
        ask: False sends nothing.

    Raises:
        InputError: a file's name in place of a model's, or no address of a server.
    """
    from seft_bench.generators.openai_compatible import OpenAICompatibleGenerator
    from seft_bench.inference.opening import open_client

    if Path(model).is_file():
        raise InputError(
            f"{model} is a file here, and --server takes names of models that it serves; leave one of the two out"
        )
    client = open_client(server, model, store)
    generator = OpenAICompatibleGenerator(model, client, server.adapted)
    address = client.base_url if client.address.secrets else server.base_url
    identity = [address, model, generator.fingerprint() if ask else ""]
    return Subject(
        model,
        sha256_json([*identity, server.identity] if server.identity else identity),
        lambda: generator,
        server=client.base_url,
        server_key_env=server.api_key_env,
        server_settings=server.identity,
        price=server_price(server, model, "the YAML that --server names"),
    )
