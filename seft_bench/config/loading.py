"""YAML -> a strict pydantic model: unknown keys are refused, and all errors are shown at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from seft_bench.errors import InputError
from seft_bench.files import read_text
from seft_bench.texts import MOST_LEVELS, TooDeepError

ConfigT = TypeVar("ConfigT", bound=BaseModel)


class Strict(BaseModel):
    """Base of all configs: frozen, a key that nobody reads is an error, and so is a number that is none."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def load_yaml(path: Path, model: type[ConfigT] | TypeAdapter[Any], overrides: Iterable[str] = ()) -> Any:
    """Read a YAML file into a config.

    Args:
        overrides: "key=value" or "settings.key=value"; the value is read as YAML.

    Raises:
        InputError: with every error of the file at once: key, value, and what is allowed.
    """
    return validate(with_overrides(read_yaml(path), overrides), model, str(path))


def with_overrides(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """Set the keys that "key=value" or "settings.key=value" name, in place; the value is read as YAML.

    Raises:
        InputError: an override of another form, or below a key that holds a value.
    """
    for override in overrides:
        _apply(values, override)
    return values


def read_yaml(path: Path) -> dict[str, Any]:
    text = read_text(path, "configuration file")
    try:
        values = parse_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: a mapping of keys to values is expected, this is {type(values).__name__}")
    return values


MOST_VALUES = 100_000
"""Of a configuration, with what its aliases stand for: a few lines of aliases of aliases stand for billions."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, which takes no key twice: one of the two values would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping whose keys differ; keys that `<<` brings in may be set anew."""
        own = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if twice := next((name for name in own if own.count(name) > 1), None):
            raise yaml.constructor.ConstructorError(None, None, f"key {twice!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text.

    Raises:
        yaml.YAMLError, ValueError: it is none, has a key twice, is nested too deeply, or stands for too many values.
    """
    try:
        value = yaml.load(text, _Loader)
    except RecursionError:
        raise TooDeepError from None
    _check_size(value)
    return value


def _check_size(value: Any) -> None:
    level, seen = [value], 0
    for _ in range(MOST_LEVELS):
        level = [below for item in level for below in _within(item)]
        seen += len(level)
        if not level:
            return
        if seen > MOST_VALUES:
            raise ValueError(f"it stands for more than {MOST_VALUES:,} values (aliases of aliases?)")
    raise TooDeepError


def _within(item: Any) -> Iterable[Any]:
    return item.values() if isinstance(item, dict) else item if isinstance(item, list | tuple | set) else ()


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise InputError(f"override {override!r} is not of the form key=value")
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise InputError(f"override {override!r}: {parent!r} holds a value, not keys")
    try:
        values[last] = parse_yaml(text)
    except (yaml.YAMLError, ValueError):
        raise InputError(f"override {override!r}: the value is not valid YAML") from None


def validate(values: Mapping[str, Any], model: type[ConfigT] | TypeAdapter[Any], source: str) -> Any:
    """Check values against a config class; `source` names them in the message."""
    try:
        return model.validate_python(values) if isinstance(model, TypeAdapter) else model.model_validate(values)
    except ValidationError as error:
        lines = [_describe(item, model) for item in error.errors()]
        raise InputError(f"{source}: {len(lines)} error{'s' if len(lines) > 1 else ''}\n" + "\n".join(lines)) from None


def _describe(item: Any, model: Any) -> str:
    place = [part for part in item["loc"] if not str(part).startswith("(")]  # which of several forms was read
    key = ".".join(str(part) for part in place) or "(top)"
    if item["type"] == "value_error" and not item["loc"]:
        return f"  {item['msg'].removeprefix('Value error, ')}"
    if item["type"] == "extra_forbidden":
        allowed = _keys_at(model, place[:-1])
        return f"  {key}: unknown key" + (f"; allowed are {', '.join(allowed)}" if allowed else "")
    if item["type"] == "missing":
        return f"  {key}: is missing"
    if item["type"] == "value_error":
        got = "" if isinstance(item["input"], dict) else f" (got {item['input']!r})"
        return f"  {key}: {item['ctx']['error']}{got}"
    return f"  {key}: {item['msg']} (got {item['input']!r})"


def _keys_at(model: Any, place: Sequence[Any]) -> list[str]:
    """List the keys that a config knows at a place in it, in any of its forms; none where the place is no config's."""
    models = [model]
    for part in place:
        if isinstance(part, str):
            models = [
                below
                for above in models
                for name, field in getattr(above, "model_fields", {}).items()
                if part in (name, field.alias)
                for below in _configs_in(field)
            ]
    return sorted({key for known in models for key in _keys_of(known)})


def _keys_of(model: Any) -> list[str]:
    return [field.alias or name for name, field in getattr(model, "model_fields", {}).items()]


def _configs_in(annotated: Any) -> list[Any]:
    """List the config classes that a field's type mentions."""
    kind = getattr(annotated, "annotation", annotated)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [below for part in get_args(kind) for below in _configs_in(part)]
