"""The YAML of a configuration: version 1.2's scalars, and no key twice."""

from __future__ import annotations

import re
from typing import Any

import yaml

from weatherdiff.errors import ConfigError

__all__ = ["parse_yaml"]


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain scalars instead of 1.1's, and no key twice.

    With 1.1, ``12:00`` is 720, ``0600`` is 384, ``1e-3`` is a string, ``no`` is False and a date
    is an object; here they are "12:00", "0600", 0.001, "no" and a string.
    """

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012


for _tag, _pattern, _starts in (
    ("bool", r"true|True|false|False", "tTfF"),
    ("null", r"null|~|", ["n", "~", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_starts)
    )


def _construct_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{key.start_mark.name}, line {key.start_mark.line + 1}: not a key.")
        name = loader.construct_object(key)
        if name in seen:
            raise ConfigError(
                f"{key.start_mark.name}, line {key.start_mark.line + 1}: the key {name!r} is there "
                f"already, in line {seen[name]}."
            )
        seen[name] = key.start_mark.line + 1
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


def parse_yaml(text: str, name: str) -> Any:
    """Read YAML.

    Parameters
    ----------
    text : str
    name : str
        Of its source, for messages.

    Raises
    ------
    ConfigError
        Not YAML, a key twice, or a key that is no scalar.

    Examples
    --------
    >>> parse_yaml("{time: 12:00, rate: 1e-3, answer: no}", "example")
    {'time': '12:00', 'rate': 0.001, 'answer': 'no'}
    """
    loader = _Loader(text)
    loader.name = name
    try:
        return loader.get_single_data()
    except yaml.YAMLError as error:
        raise ConfigError(f"Not YAML: {error}") from None
    finally:
        loader.dispose()
