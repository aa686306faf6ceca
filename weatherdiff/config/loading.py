"""From a YAML file and overrides to a checked configuration."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from weatherdiff.config.dialect import parse_yaml
from weatherdiff.config.run import Config
from weatherdiff.errors import ConfigError

__all__ = ["load_config"]


def load_config(path: str | os.PathLike[str], overrides: list[str] | None = None) -> Config:
    """Read and check a configuration.

    Parameters
    ----------
    path : path
        A YAML file.
    overrides : list of str, optional
        ``"section.key=value"``, the value in YAML; they replace what the file says.

    Raises
    ------
    ConfigError
        There is no such file: to a scheduler that is no input that may yet come. Or it is not
        YAML, has a key twice, an unknown key (the nearest known one is named), or a value that
        cannot be.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"There is no configuration at {path}.")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not text in UTF-8: {error}.") from None
    content, lines = parse_yaml(text, str(path))
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds no configuration: a mapping of keys was expected.")
    for override in overrides or []:
        _override(content, override)
        given = tuple(override.partition("=")[0].split("."))
        lines = {key: line for key, line in lines.items() if key[: len(given)] != given}
        lines[given] = 0  # none of the file's
    try:
        return Config.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_explain(error, lines)}") from None


def _override(content: dict[str, Any], override: str) -> None:
    key, sign, value = override.partition("=")
    if not sign:
        raise ConfigError(f"Cannot set {override!r}; write section.key=value.")
    *sections, last = key.split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise ConfigError(f"Cannot set {key}: {section} is not a section.")
    content[last] = parse_yaml(value, key).content


def _explain(error: ValidationError, lines: Mapping[tuple[str, ...], int]) -> str:
    """One sentence for each error, with its line, and the nearest known key for an unknown one."""
    sentences = []
    for item in error.errors():
        # what kind of value it is, where there are several, is no part of the key
        where = [str(part) for part in item["loc"] if not str(part).startswith("<")]
        line = lines.get(tuple(where), lines.get(tuple(where[:-1])))  # or that of what holds it
        at = f" (line {line})" if line else ""
        if item["type"] == "extra_forbidden":
            known = _keys(where[:-1])
            near = difflib.get_close_matches(where[-1], known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
            sentences.append(f"unknown key {'.'.join(where)!r}; {hint}{at}")
        else:
            place = ".".join(where)
            message = item["msg"].removeprefix("Value error, ")
            sentences.append(f"{place}: {message}{at}" if place else message)
    return "; ".join(sentences)


def _keys(sections: list[str]) -> list[str]:
    section: Any = Config
    for name in sections:
        if not name.isdigit():  # of a list, whose section is that of its items
            section = _section_in(section.model_fields[name].annotation)
    return list(section.model_fields)


def _section_in(annotation: Any) -> Any:
    """Give the section among the types a key may have."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for a in get_args(annotation) if (found := _section_in(a))), None)
