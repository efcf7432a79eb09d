"""Answers through vLLM in this process (extra `vllm`, in an environment of its own: its pins differ from ours)."""

from __future__ import annotations

import functools
import gc
import importlib.metadata
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seft_bench.chat import load_tokenizer, stop_ids
from seft_bench.checkpoints.merging import needs_float32
from seft_bench.checkpoints.weights import check_folder
from seft_bench.errors import InputError
from seft_bench.generators.vllm_tokens import TokenGenerator
from seft_bench.inference.vllm.environment import CPU_SETTINGS, SETTINGS
from seft_bench.inference.vllm.server import reloads_rightly, shape_of
from seft_bench.inference.vllm.tokens import TokenRequest

if TYPE_CHECKING:
    from vllm import LLM

CPU_ENGINE = {"dtype": "float32", "enforce_eager": True, "enable_chunked_prefill": False}
"""The same as the server's; see `inference.vllm.environment`."""


class VLLMEngine:
    """One `vllm.LLM` for many checkpoints, one at a time.

    Args:
        settings: further arguments of `vllm.LLM` (max_model_len, gpu_memory_utilization, tensor_parallel_size).

    Raises:
        InputError: vLLM is not installed in this environment.
    """

    def __init__(self, *, trust_remote_code: bool = False, **settings: Any) -> None:
        self.version = engine_version()
        self.trust_remote_code, self._settings = trust_remote_code, settings
        self._llm: LLM | None = None
        self._folder: Path | None = None
        self._shape = ""

    def load(self, folder: Path) -> LLM:
        """Return the `vllm.LLM` with this checkpoint's weights.

        They are loaded into the running engine if all but the weights is equal, else into a new one.
        """
        folder, shape = folder.resolve(), shape_of(folder)
        if self._llm is not None and self._folder == folder:
            return self._llm
        check_folder(folder, self.trust_remote_code)
        self._folder = None  # in between nobody can say what is loaded
        if self._llm is not None and self._shape == shape and reloads_rightly(folder):
            self._llm.collective_rpc("reload_weights", kwargs={"weights_path": str(folder)})
            if not self._llm.reset_prefix_cache():
                raise RuntimeError("vLLM did not forget the former weights' prefix cache")
        else:
            self.close()
            self._llm = self._open(folder)
        self._folder, self._shape = folder, shape
        return self._llm

    def close(self) -> None:
        """Give back its memory. May be called twice."""
        llm, self._llm, self._folder = self._llm, None, None
        if llm is not None:
            llm.llm_engine.engine_core.shutdown()
            del llm
            gc.collect()

    def _open(self, folder: Path) -> LLM:
        on_cpu = not _has_accelerator()
        on_cpu_only = CPU_SETTINGS | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        for name, value in (SETTINGS | on_cpu_only if on_cpu else SETTINGS).items():
            os.environ.setdefault(name, value)
        from vllm import LLM

        try:
            return LLM(
                str(folder),
                generation_config="vllm",  # no sampling defaults out of the checkpoint
                load_format="safetensors",
                trust_remote_code=self.trust_remote_code,
                disable_log_stats=True,
                **{**(CPU_ENGINE if on_cpu else _number_format(folder)), **self._settings},
            )
        except (ValueError, OSError, RuntimeError) as error:
            raise InputError(f"vLLM does not load {folder}: {str(error).splitlines()[0]}") from None


class VLLMEngineGenerator(TokenGenerator):
    """A checkpoint in a `VLLMEngine`, prompted with our own token ids; each conversation draws from its own seed.

    Args:
        engine: shared by the generators of one command; it is given this checkpoint's weights when answers are asked
            for.
    """

    def __init__(self, folder: Path, model_id: str, engine: VLLMEngine, *, batch_size: int = 64) -> None:
        self.folder, self.model_id, self.engine, self.batch_size = folder, model_id, engine, batch_size
        self.tokenizer = load_tokenizer(folder, engine.trust_remote_code)
        self.stops = stop_ids(self.tokenizer)

    def _load(self) -> int:
        return int(self.engine.load(self.folder).model_config.max_model_len)

    def _draw(self, requests: Sequence[TokenRequest]) -> list[list[int]]:
        from vllm import SamplingParams

        parameters = [
            SamplingParams(
                temperature=request.temperature,
                top_p=request.top_p,
                max_tokens=request.max_tokens,
                seed=request.seed,
                stop_token_ids=list(self.stops),
                detokenize=False,
            )
            for request in requests
        ]
        prompts = [{"prompt_token_ids": list(request.prompt)} for request in requests]
        outputs = self.engine.load(self.folder).generate(prompts, parameters, use_tqdm=False)
        return [list(output.outputs[0].token_ids) for output in outputs]


@functools.cache
def engine_version() -> str:
    """Return distribution and version, as in "vllm 0.32.0".

    Raises:
        InputError: vLLM is not installed in this environment.
    """
    names = importlib.metadata.packages_distributions().get("vllm", [])
    if not names or importlib.util.find_spec("vllm") is None:
        raise InputError(
            "vLLM is not installed in this environment. Its pins differ from ours, so make one for both: "
            '`pip install "seft-bench[vllm]"` in a fresh environment, or use `--engine vllm`, which talks to vLLM as a '
            "server."
        )
    return f"{names[0]} {importlib.metadata.version(names[0])}"


def _number_format(folder: Path) -> dict[str, Any]:
    """Return what keeps vLLM from rounding a model that is another one when rounded."""
    return {"dtype": "float32"} if needs_float32(folder) else {}


def _has_accelerator() -> bool:
    import torch

    return bool(torch.accelerator.is_available())
