"""Bases with another chat template than their own, or of another size: made without touching their files."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from seft_bench.checkpoints import fingerprint, tokenizer_folder
from seft_bench.console import says_who
from seft_bench.errors import InputError, unknown_name
from seft_bench.files import locked, read_json, sha256_json
from seft_bench.ownership import is_file, remove_listed
from seft_bench.records import Row

TEMPLATE_FILE = "chat_template.jinja"
TOKENIZER_FILES = r"tokenizer|special_tokens|added_tokens|vocab|merges|spiece|sentencepiece"
"""Beginnings of the names of a tokenizer's files."""


def shipped_chat_templates() -> dict[str, Path]:
    folder = Path(__file__).parent / "chat_templates"
    return {path.stem: path for path in sorted(folder.glob("*.jinja"))}


def read_chat_template(name: str) -> str:
    """Read a template: a shipped one's name, a .jinja file, or the Jinja text itself.

    Raises:
        InputError: an unknown name, a file that cannot be read, or text that is no Jinja.
    """
    known = shipped_chat_templates()
    if name in known:
        return known[name].read_text(encoding="utf-8")
    if "{" not in name and not name.endswith(".jinja"):
        raise unknown_name("chat template", name, known, "A template of your own is a .jinja file, or its text.")
    text = _text_of(Path(name)) if name.endswith(".jinja") else name
    _check_template(text, name)
    return text


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"chat template {path} cannot be read: {error}") from None


def _check_template(text: str, name: str) -> None:
    import jinja2

    try:
        jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(
            text.replace("{% generation %}", "").replace("{% endgeneration %}", "")
        )
    except jinja2.TemplateSyntaxError as error:
        shown = name if name.endswith(".jinja") else "the recipe's"
        raise InputError(f"chat template ({shown}), line {error.lineno}: {error.message}") from None


def with_chat_template(base: Path, template: str, folder: Path) -> Path:
    """Make a checkpoint folder of the base's files with another chat template; weights are linked, not copied.

    An adapter without a tokenizer gets that of the model it is over.

    Args:
        template: as `read_chat_template` takes it.
        folder: holds such bases, one a base and template; one that is there is taken as it is.
    """
    text = read_chat_template(template)
    target = folder / f"{base.name}-{sha256_json([fingerprint(base), text])[:10]}"
    with locked(folder / ".locks" / target.name, says_who(f"makes {target}")):
        if not target.exists():
            _write(base, text, target)
    return target


def _write(base: Path, text: str, target: Path) -> None:
    partial = target.with_name(f".{target.name}.partial")
    remove_listed(partial, {r"tokenizer_config\.json|chat_template\.jinja": is_file, r".+": Path.is_symlink})
    partial.mkdir(parents=True, exist_ok=True)
    tokenizer = tokenizer_folder(base)
    found = list(base.iterdir())
    if tokenizer != base:
        found += [path for path in tokenizer.iterdir() if re.match(TOKENIZER_FILES, path.name)]
    for source in found:
        if source.is_file() and source.name not in (TEMPLATE_FILE, "tokenizer_config.json"):
            (partial / source.name).symlink_to(source.resolve())
    settings = read_json(tokenizer / "tokenizer_config.json", "settings of a tokenizer")
    settings.pop("chat_template", None)
    (partial / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    (partial / TEMPLATE_FILE).write_text(text, encoding="utf-8")
    partial.rename(target)


# Blank models of another size


def with_size(blank: Path, size: Mapping[str, int], folder: Path) -> Path:
    """Make a blank model of another size: its configuration with some keys changed, over the same tokenizer.

    Args:
        size: keys of config.json, such as hidden_size.
        folder: holds such bases, one a blank model and size; one that is there is taken as it is.

    Raises:
        InputError: the sizes do not fit together, or the configuration does not have such a key.
    """
    config = _resized(read_json(blank / "config.json", "configuration of a model"), size, blank)
    target = folder / f"{blank.name}-{sha256_json([fingerprint(blank), config])[:10]}"
    with locked(folder / ".locks" / target.name, says_who(f"makes {target}")):
        if not target.exists():
            partial = target.with_name(f".{target.name}.partial")
            remove_listed(partial, {r"config\.json": is_file, r".+": Path.is_symlink})
            partial.mkdir(parents=True, exist_ok=True)
            for source in blank.iterdir():
                if source.is_file() and source.name != "config.json" and source.suffix != ".safetensors":
                    (partial / source.name).symlink_to(source.resolve())
            (partial / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
            partial.rename(target)
    return target


def _resized(config: Row, size: Mapping[str, int], blank: Path) -> Row:
    if unknown := [key for key in size if key not in config]:
        raise InputError(f"settings.size: the configuration of {blank} has no {', '.join(unknown)}")
    made = {**config, **size}
    if "num_key_value_heads" not in size and config.get("num_key_value_heads") == config["num_attention_heads"]:
        made["num_key_value_heads"] = made["num_attention_heads"]
    hidden, heads = int(made["hidden_size"]), int(made["num_attention_heads"])
    groups = int(made.get("num_key_value_heads") or heads)
    if hidden % heads or heads % groups:
        raise InputError(
            f"settings.size: hidden_size {hidden} has to be a multiple of num_attention_heads {heads}, and that of "
            f"num_key_value_heads {groups}"
        )
    if "head_dim" in made:
        made["head_dim"] = hidden // heads
    return made
