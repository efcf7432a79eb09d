"""A judge in a vLLM server of ours: started at the first judgment, stopped after the last.

Grades are texts, as `OpenAIJudge`'s. A preference is the probability of "m" against "M" when nothing else can be
written: vLLM's `structured_outputs` masks all other tokens, so the two log-probabilities sum to 1, and no judgment is
lost because the judge wanted to say something else first.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seft_bench.checkpoints import check_whole
from seft_bench.config import VLLMJudgeConfig
from seft_bench.errors import InputError
from seft_bench.files import check_safetensors, sha256_folder, sha256_json
from seft_bench.inference.replies import Reply
from seft_bench.inference.store import ResponseStore
from seft_bench.inference.vllm.client import VLLMClient
from seft_bench.inference.vllm.environment import find_environment
from seft_bench.inference.vllm.server import START_SECONDS, VLLMServer
from seft_bench.judges.base import BaseJudge, OnJudgment
from seft_bench.judges.openai_compatible import OpenAIJudge
from seft_bench.judges.probe import probe_kind, probe_request
from seft_bench.judges.prompts import Prompt, TemplateSet, render, template_versions
from seft_bench.judges.sampling import Sampling
from seft_bench.records import JudgeRequest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHOICES = ("m", "M")


class VLLMJudge(BaseJudge):
    """A judge whose server is ours; `config.VLLMJudgeConfig` explains the arguments.

    It has no client of its own: what it asks costs nothing, and its server is not up before the first judgment.

    Args:
        store_path: judgments are kept there as they arrive, under the hash of the judge's weights; None keeps nothing.
        log_folder: of the server's logs; None: a temporary folder.
    """

    is_managed = True

    def __init__(
        self,
        name: str,
        model: str,
        *,
        store_path: Path | None = None,
        log_folder: Path | None = None,
        templates: TemplateSet = "seft-bench",
        temperature: float | None = None,
        max_tokens: int | None = None,
        server_arguments: Sequence[str] = (),
        start_seconds: float = START_SECONDS,
        max_in_flight: int = 256,
    ) -> None:
        self._name, self.model, self.templates = name, model, templates
        self._store_path, self._log_folder = store_path, log_folder
        self._temperature, self._max_tokens = temperature, max_tokens
        self._server_arguments, self._start_seconds = tuple(server_arguments), start_seconds
        self._max_in_flight = max_in_flight
        self._open: _ServedJudge | None = None
        self.notes: list[str] = []

    @classmethod
    def from_config(cls, config: VLLMJudgeConfig, store_path: Path | None = None) -> VLLMJudge:
        settings = config.model_dump(
            include={"templates", "temperature", "max_tokens", "server_arguments", "start_seconds", "max_in_flight"}
        )
        logs = store_path.parent / "vllm-logs" if store_path else None
        return cls(config.name, config.model, store_path=store_path, log_folder=logs, **settings)

    @functools.cached_property
    def folder(self) -> Path:
        """The folder of the judge's checkpoint.

        Raises:
            InputError: it is not on this machine.
        """
        return find_model(self.model)

    @functools.cached_property
    def id(self) -> str:
        """Name and hash of what can change a verdict: weights, engine, arguments, wording, sampling, preferences.

        Raises:
            InputError: the model or vLLM is not here.
        """
        settings = {
            "weights": sha256_folder(self.folder),
            "engine": find_environment().engine,
            "arguments": [find_environment().arguments, self._server_arguments],
            "templates": [self.templates, template_versions(self.templates)],
            "sampling": [self._temperature, self._max_tokens],
            "preference_from": "choice",
        }
        return f"{self._name}-{sha256_json(settings)[:8]}"

    def check(self, kinds: Collection[str], examples: Sequence[JudgeRequest] = ()) -> None:
        """Check all that needs no start, which takes minutes: vLLM, the model, its chat template, our prompts.

        Raises:
            InputError: one of them is missing.
        """
        find_environment()
        check_safetensors(self.folder)
        tokenizer = self._tokenizer
        for kind in sorted(kinds):
            render(probe_request(kind), self.templates)
        lengths = [len(tokenizer.encode(choice, add_special_tokens=False)) for choice in CHOICES]
        if "preference" in kinds and any(length != 1 for length in lengths):
            raise InputError(
                f"judge {self._name}: for the tokenizer of {self.model}, {' or '.join(CHOICES)} is more than one "
                "token, so it cannot compare."
            )

    def judge(self, requests: Sequence[JudgeRequest], model_id: str, on_judgment: OnJudgment) -> None:
        """Judge as `Judge.judge`; the first call that has requests starts the server.

        Raises:
            InputError: vLLM does not start. ServiceUnavailableError: the server died; what arrived is kept.
        """
        if requests:
            self._served({probe_kind(request) for request in requests}).judge(requests, model_id, on_judgment)

    def close(self) -> None:
        """Stop the server; the next judgment would start it again."""
        served, self._open = self._open, None
        if served is not None:
            served.server.stop()

    @functools.cached_property
    def _tokenizer(self) -> PreTrainedTokenizerBase:
        from seft_bench.chat import load_tokenizer

        return load_tokenizer(self.folder)

    def _served(self, kinds: Collection[str]) -> _ServedJudge:
        if self._open is None:
            self.check(kinds)
            self._open = self._start()
        self._open.server.serve(self.folder)  # started anew after it died
        self._open.client.weights_fingerprint = self._open.server.weights_fingerprint
        if not set(kinds) <= self._open.probed:
            self._open.check(kinds)
        return self._open

    def _start(self) -> _ServedJudge:
        logs = self._log_folder or Path(tempfile.mkdtemp(prefix="seft-bench-vllm-"))
        model = Path(self.model)
        name = model.name if model.is_absolute() else self.model  # no path of this machine in a record
        server = VLLMServer(
            find_environment(),
            logs,
            reloadable=False,
            served_name=name,
            arguments=self._server_arguments,
            start_seconds=self._start_seconds,
        )
        store = ResponseStore(self._store_path) if self._store_path else None
        client = VLLMClient(server, self._tokenizer, store, max_in_flight=self._max_in_flight)
        sampling = Sampling("choice", temperature=self._temperature, max_tokens=self._max_tokens)
        return _ServedJudge(self, server, client, sampling)


class _ServedJudge(OpenAIJudge):
    """The running half: an `OpenAIJudge` whose preferences are a choice between two tokens."""

    def __init__(self, judge: VLLMJudge, server: VLLMServer, client: VLLMClient, sampling: Sampling) -> None:
        super().__init__(judge._name, client, templates=judge.templates, sampling=sampling)
        self.server, self.probed = server, set[str]()
        self.notes = judge.notes
        self.__dict__["id"] = judge.id  # of weights, not of a port

    def check(self, kinds: Collection[str], examples: Sequence[JudgeRequest] = ()) -> None:
        """Send one real request of each kind.

        Raises:
            InputError: the server ignores the choice, which would give another kind of preference.
        """
        super().check(kinds, examples)
        self.probed |= set(kinds)

    def _verdict(self, request: JudgeRequest, prompt: Prompt, replies: Sequence[Reply]) -> dict[str, Any]:
        fields = super()._verdict(request, prompt, replies)
        return {**fields, "details": {**fields["details"], "engine": self.server.engine}}


def find_model(name: str) -> Path:
    """Return the folder of a judge's model: a checkpoint folder, or a hub id in the hub's cache.

    Nothing is downloaded: judges are large.

    Raises:
        InputError: it is not on this machine; with what would fetch it.
    """
    check_whole(Path(name).expanduser(), "judge's model")
    if (Path(name).expanduser() / "config.json").is_file():
        return Path(name).expanduser()
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise InputError(
            f"judge's model {name!r} is no checkpoint folder (with config.json, safetensors, tokenizer), and no hub id "
            "(owner/name)"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (HFValidationError, LocalEntryNotFoundError, OSError):
        raise InputError(
            f"judge's model {name} is not on this machine, and nothing is downloaded without being asked: `hf download "
            f"{name} --exclude '*.bin' '*.pth'`, or name a checkpoint folder as `model`."
        ) from None
