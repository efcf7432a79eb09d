"""The model of a judge that runs in this process: finding it, naming it, and checking it without its weights."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seft_bench.chat import load_tokenizer
from seft_bench.checkpoints import base_of, check_whole, fingerprint, is_adapter
from seft_bench.checkpoints.classifiers import adapted_config, is_reward_model
from seft_bench.checkpoints.weights import load_config, positions_of
from seft_bench.errors import InputError, is_out_of_memory
from seft_bench.files import check_safetensors, read_json, sha256_folder

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

UNBOUNDED_TOKENS = 1 << 30


class LocalModel:
    """A model's folder, opened without reading its weights.

    Attributes:
        name: hub id, or the folder's last name: no path of this machine enters a record.
        folder: config.json, tokenizer and safetensors.
    """

    def __init__(
        self,
        judge: str,
        model: str,
        device: str = "auto",
        context_tokens: int | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        from seft_bench.data.training import open_base

        self.judge, self.trust_remote_code = judge, trust_remote_code
        self.folder = open_base(model, f"model of judge {judge}:")
        self.is_adapter = is_adapter(self.folder)
        if not is_reward_model(self.folder):  # whose adapters are laid over their bases when they are loaded
            check_whole(self.folder, f"model of judge {judge}:")
        self.name = model if self.folder != Path(model) else self.folder.resolve().name
        self.device = self._device(device)
        self._context_tokens = context_tokens
        self._check_weights()

    @functools.cached_property
    def config(self) -> PretrainedConfig:
        """The model's configuration, read by transformers.

        Raises:
            InputError: transformers does not know it, or it needs code of its own.
        """
        try:
            adapted = adapted_config if self.is_adapter else load_config
            config: PretrainedConfig = adapted(self.folder, self.trust_remote_code)
        except InputError as error:
            raise InputError(f"judge {self.judge}: {error}") from None
        return config

    @functools.cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return load_tokenizer(self.folder, self.trust_remote_code)

    @functools.cached_property
    def context_tokens(self) -> int:
        """The smallest of what the YAML, the model and its tokenizer allow."""
        limits = (self._context_tokens, positions_of(self.config), self.tokenizer.model_max_length)
        return int(min(limit for limit in (*limits, UNBOUNDED_TOKENS) if limit))

    @functools.cached_property
    def identity(self) -> dict[str, Any]:
        """All of the model that can change a verdict: contents of its files, number format, versions of libraries."""
        libraries = {name: version(name).partition("+")[0] for name in ("torch", "transformers")}
        return {
            "model": self.name,
            "files": fingerprint(self.folder) if self.is_adapter else sha256_folder(self.folder),
            "dtype": self._dtype_name(),
            "libraries": libraries,
        }

    @property
    def load_options(self) -> dict[str, Any]:
        """Keywords for `load_whole`: float32 on CPU, the checkpoint's own type on a GPU."""
        return {
            "dtype": "float32" if self.device == "cpu" else "auto",
            "trust_remote_code": self.trust_remote_code,
        }

    def check_architecture(self, suffixes: Sequence[str], what: str) -> None:
        """Refuse a checkpoint of another kind.

        transformers would load it and fill the missing head with random numbers.

        Raises:
            InputError: config.json names an architecture, and it ends with none of `suffixes`.
        """
        named = [str(name) for name in getattr(self.config, "architectures", None) or []]
        if named and not self.trust_remote_code and not any(name.endswith(tuple(suffixes)) for name in named):
            raise InputError(
                f"judge {self.judge}: {self.name} is a {', '.join(named)}, and {what} is needed (config.json, "
                "architectures)"
            )

    @contextlib.contextmanager
    def memory_guard(self) -> Iterator[None]:
        """Turn running out of memory, which the user can put right, into an `InputError`."""
        try:
            yield
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise InputError(
                f"judge {self.judge}: {self.name} does not fit into the memory of {self.device}. Answer first "
                "(`--stage answer`) and judge in a run of its own (`--stage judge --stage score`). What was judged is "
                "kept."
            ) from None

    def _device(self, device: str) -> str:
        import torch

        if device == "auto":
            return "cuda" if torch.cuda.is_available() else "cpu"
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise InputError(
                f"judge {self.judge}: device {device} is asked for, and torch sees no GPU here. Set `device: auto` or "
                "`device: cpu`."
            )
        return device

    def _dtype_name(self) -> str:
        if self.device == "cpu":
            return "float32"
        whole = base_of(self.folder) if self.is_adapter else self.folder
        settings = read_json(whole / "config.json", "configuration of the judge's model")
        return str(settings.get("dtype") or settings.get("torch_dtype") or "auto")

    def _check_weights(self) -> None:
        if any(self.folder.glob("*.safetensors")):
            check_safetensors(self.folder)
            return
        suffixes = (".bin", ".pt", ".pth", ".ckpt")
        pickled = sorted(path.name for path in self.folder.iterdir() if path.suffix in suffixes)
        found = "It has no weights at all"
        if pickled:
            found = f"It has {', '.join(pickled[:4])}, which can run code when loaded"
        raise InputError(
            f"judge {self.judge}: {self.name} has no weights in safetensors. {found}; save it with `save_pretrained`."
        )
