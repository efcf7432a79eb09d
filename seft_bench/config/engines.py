"""The keys of a recipe and of a matrix that say who draws texts between trainings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from seft_bench.config.loading import Strict

EngineName = Literal["transformers", "vllm"]
"""Who draws drafts and revisions and measures likelihoods: a model in this process, or a vLLM server of ours."""


class VLLMConfig(Strict):
    """How a run's vLLM server is started. No text depends on it: what does not fit is refused, never cut."""

    gpu_memory_utilization: float | None = Field(
        default=None, gt=0, le=1, description="share of a GPU's memory that the server takes; null: vLLM's own choice"
    )
    tensor_parallel_size: int | None = Field(default=None, gt=0, description="GPUs that share one model; null: one")
    max_model_len: int | None = Field(
        default=None, gt=1, description="tokens of prompt and answer that fit; null: as many as the model takes"
    )

    def server_arguments(self) -> list[str]:
        """Return what the server's command line is given.

        >>> VLLMConfig(max_model_len=4096).server_arguments()
        ['--max-model-len', '4096']
        """
        given = self.model_dump(exclude_none=True)
        return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
