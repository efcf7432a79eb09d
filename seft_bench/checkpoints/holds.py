"""The files of folders that we save in trainings: all that is ever removed of them."""

from __future__ import annotations

from seft_bench.ownership import Holds, is_file

CHECKPOINT: Holds = {
    r"(config|generation_config|adapter_config|preprocessor_config|processor_config|checkpoint)\.json": is_file,
    r"(model|adapter_model)(-\d+-of-\d+)?\.safetensors": is_file,
    r"model\.safetensors\.index\.json": is_file,
    r"(tokenizer|special_tokens|added_tokens|vocab|merges|spiece|sentencepiece)[\w.-]*\.(json|txt|model)": is_file,
    r"chat_template\.jinja|README\.md": is_file,  # peft adds the latter, and a killed save may leave it
    r"tekken\.json|dict\.txt|bpe\.codes|(source|target)\.spm|\w+\.tiktoken": is_file,
    r"(modeling|configuration|tokenization)_\w+\.py": is_file,  # code that comes with a model
    "additional_chat_templates": {r".+\.jinja": is_file},
}
"""A whole model, or an adapter, with its tokenizer."""

ANSWERING: Holds = {**CHECKPOINT, r"aligner\.json": is_file, "policy|reviser|decider": CHECKPOINT}
"""What a run publishes: a model, or an aligner with the models that were trained for it."""

STATE: Holds = {r"tensors-\d{5}\.safetensors|state\.json": is_file}
"""The state of a training at one step."""

EVENT_FILES: Holds = {r"events\.out\.tfevents\..+": is_file}
"""A folder of TensorBoard's."""
