"""Prompts: the messages that a judge reads for a request.

Two sets of templates: "official" (FastChat's `judge_prompts.jsonl` from the data folder, and the AlpacaEval prompt out
of the installed alpaca-eval package) and "seft-bench" (ours, in `templates.py`).

Answers are data: a template is cut into messages before any answer is put in, and all placeholders are filled in one
pass, so a chat marker, a brace or a placeholder inside an answer stays text. In our own templates a line that parts the
prompt stays text too (`delimiters`).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Literal

from seft_bench.data.questions import REFERENCE_CATEGORIES
from seft_bench.errors import InputError
from seft_bench.files import read_jsonl, read_text
from seft_bench.judges.delimiters import as_quotation
from seft_bench.judges.templates import GRADE_SYSTEM, GRADES, PAIR, PAIR_SYSTEM, join_turns
from seft_bench.records import JudgeRequest, Message, Row, text_hash

TemplateSet = Literal["official", "seft-bench"]
ReplyKind = Literal["rating", "token", "verdict"]

ALPACAEVAL_PROMPT = "alpaca_eval/evaluators_configs/alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt"
MTBENCH_PROMPTS = "mt_bench/judge_prompts.jsonl"


@dataclass(frozen=True, slots=True)
class Template:
    """A prompt before answers are put in.

    Attributes:
        name: as in the source ("single-math-v1"); it is recorded with a judgment.
        messages: with `{placeholders}`.
        reply: what the judge is told to reply: a rating, one token (m or M), or a verdict ([[A]]).
    """

    name: str
    messages: tuple[Message, ...]
    reply: ReplyKind

    @property
    def version(self) -> str:
        """Name and hash of the wording: it enters a stored response's key and a judge's identity."""
        parts = [part for message in self.messages for part in (message["role"], message["content"])]
        return f"{self.name}-{text_hash(*parts)[:8]}"


@dataclass(frozen=True, slots=True)
class Prompt:
    """Messages to send, with the template that says how the reply is to be read."""

    messages: tuple[Message, ...]
    template: Template

    @property
    def hash(self) -> str:
        return text_hash(*(part for message in self.messages for part in (message["role"], message["content"])))


def render(request: JudgeRequest, templates: TemplateSet) -> Prompt:
    """Render the prompt for a request.

    Raises:
        InputError: an official template is not there; the message says how to get it.
    """
    template = choose(request, templates)
    values = _values(_quoted(request) if templates == "seft-bench" else request)
    messages = tuple(
        {"role": message["role"], "content": fill(message["content"], values)} for message in template.messages
    )
    return Prompt(messages, template)


def _quoted(request: JudgeRequest) -> JudgeRequest:
    """Return the request with texts that cannot pretend to be a part of our prompts."""
    question = request.question
    turns, reference, candidate, baseline = (
        tuple(map(as_quotation, texts))
        for texts in (question.turns, question.reference, request.candidate, request.baseline)
    )
    own = dataclasses.replace(question, turns=turns, reference=reference)
    return dataclasses.replace(request, question=own, candidate=candidate, baseline=baseline)


def choose(request: JudgeRequest, templates: TemplateSet) -> Template:
    """Choose the template that a request asks for."""
    if templates == "seft-bench":
        return ours_by_name()[_our_name(request)]
    if request.kind == "preference" and len(request.question.turns) == 1:
        return alpacaeval_template()
    return mtbench_templates()[_mtbench_name(request)]


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put values into `{placeholders}` in one pass: nothing inside a value is looked at.

    >>> fill("Q: {question} A: {answer}", {"question": "{answer}?", "answer": "{}"})
    'Q: {answer}? A: {}'
    """
    return re.sub(r"\{(\w+)\}", lambda match: values.get(match.group(1), match.group(0)), template)


def _uses_reference(request: JudgeRequest) -> bool:
    return request.question.category in REFERENCE_CATEGORIES and bool(request.question.reference)


def _mtbench_name(request: JudgeRequest) -> str:
    family = "single" if request.kind == "grade" else "pair"
    version = "v2" if family == "pair" and not _uses_reference(request) else "v1"
    parts = [family, "math" if _uses_reference(request) else "", version, "multi-turn" if request.turn > 1 else ""]
    return "-".join(part for part in parts if part)


def _our_name(request: JudgeRequest) -> str:
    if request.kind == "grade":
        return "grade-reference" if _uses_reference(request) else "grade"
    return "pair"


def _values(request: JudgeRequest) -> dict[str, str]:
    """Return every placeholder of every template that the request has a text for."""
    question = request.question
    values = {
        "question": question.turns[0],
        "instruction": question.turns[0],
        "answer": request.candidate[0],
        "turn": str(request.turn),
        "conversation": _conversation(question.turns[: request.turn], request.candidate),
        "questions": _numbered("User", question.turns[: max(len(request.candidate), request.turn)]),
        "references": _numbered("Reference answer", question.reference[: request.turn]),
    }
    values |= _by_number("question", question.turns)
    values |= _by_number("answer", request.candidate)
    values |= _by_number("ref_answer", question.reference)
    return values | _pair_values(request) if request.kind == "preference" else values


def _pair_values(request: JudgeRequest) -> dict[str, str]:
    """Return the two answers in the order shown."""
    # The official tool shows the evaluated model as output_1 where it is switched, and as assistant A likewise.
    first, second = request.candidate, request.baseline
    if not request.candidate_first:
        first, second = second, first
    values = {"output_1": join_turns(first), "output_2": join_turns(second)}
    values |= {"answer_a": first[0], "answer_b": second[0]}
    return values | _by_number("answer_a", first) | _by_number("answer_b", second)


def _by_number(name: str, texts: tuple[str, ...]) -> dict[str, str]:
    return {f"{name}_{number}": text for number, text in enumerate(texts, start=1)}


def _conversation(questions: tuple[str, ...], answers: tuple[str, ...]) -> str:
    turns = [
        f"### User, turn {n}\n{question}\n\n### Assistant, turn {n}\n{answer}"
        for n, (question, answer) in enumerate(zip(questions, answers, strict=False), 1)
    ]
    return "\n\n".join(turns)


def _numbered(title: str, texts: tuple[str, ...]) -> str:
    return "\n\n".join(f"### {title}, turn {number}\n{text}" for number, text in enumerate(texts, start=1))


@cache
def ours_by_name() -> dict[str, Template]:
    """Return our own templates by name."""
    grade = {
        name: Template(f"seft-bench-{name}", _messages(GRADE_SYSTEM, text), "rating") for name, text in GRADES.items()
    }
    return {**grade, "pair": Template("seft-bench-pair", _messages(PAIR_SYSTEM, PAIR), "token")}


def template_versions(templates: TemplateSet) -> list[str]:
    """Name the wording of a set: hashes of our own; for the official ones their tools' versions, which fix them."""
    if templates == "official":
        return ["fschat-0.2.36", "alpaca-eval-0.6.6"]
    return sorted(template.version for template in ours_by_name().values())


def mtbench_templates() -> dict[str, Template]:
    """Return FastChat's templates by name, from the data folder."""
    from seft_bench.data.official import official_path

    return _read_mtbench(official_path(MTBENCH_PROMPTS))


@cache
def _read_mtbench(path: Path) -> dict[str, Template]:
    rows = read_jsonl(path, "MT-Bench's judge prompts", required=("name", "type", "system_prompt", "prompt_template"))
    return {row["name"]: _mtbench_template(row) for row in rows}


def _mtbench_template(row: Row) -> Template:
    reply: ReplyKind = "rating" if row["type"] == "single" else "verdict"
    return Template(row["name"], _messages(row["system_prompt"], row["prompt_template"]), reply)


def _messages(system: str, user: str) -> tuple[Message, ...]:
    return ({"role": "system", "content": system}, {"role": "user", "content": user})


@cache
def alpacaeval_template() -> Template:
    """Read AlpacaEval 2.0's prompt out of the installed package's files: importing it is slow and fragile."""
    text = read_text(_installed_prompt(), "AlpacaEval's judge prompt")
    return Template("alpaca_eval_clf", split_chatml(text), "token")


def _installed_prompt() -> Path:
    missing = InputError(
        "AlpacaEval's official judge prompt is read from the installed alpaca-eval package, which is not here. "
        'Run: pip install "seft-bench[official]", or use a judge with `templates: seft-bench`.'
    )
    try:
        listed = files("alpaca-eval") or []
    except PackageNotFoundError:
        raise missing from None
    path = next((Path(str(file.locate())) for file in listed if file.as_posix() == ALPACAEVAL_PROMPT), None)
    if path is None or not path.is_file():
        raise missing
    return path


def split_chatml(text: str) -> tuple[Message, ...]:
    """Cut a chat-ML template into messages, as alpaca_eval's `prompt_to_chatml` does, but before answers are in it.

    >>> split_chatml("<|im_start|>system\\nBe fair.\\n<|im_end|>\\n<|im_start|>user\\n{output_1}\\n<|im_end|>")[1]
    {'role': 'user', 'content': '{output_1}'}
    """
    messages = []
    for part in text.strip().split("<|im_start|>")[1:]:
        role, _, content = part.partition("\n")
        messages.append({"role": role.strip(), "content": content.split("<|im_end|>", 1)[0].strip()})
    if not messages:
        raise InputError(f"a chat-ML template with <|im_start|> markers is expected, this starts with {text[:40]!r}")
    return tuple(messages)
