"""YAML that means what it seems to: no key twice, no value that two readers read differently.

Numbers, ``true`` and ``false``, ``null`` and text are those of YAML 1.2. What YAML 1.1, which most
programs still speak, makes something else of (``12:00`` is 720 there, ``0600`` is 384, ``no`` is
False, ``1_000`` is 1000) is refused with its line, and with what to write instead. ``1e-3`` is the
number it looks like, where YAML 1.1 makes text of it. Tags, which can name classes, and aliases,
which can make a few bytes gigabytes, are refused as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import yaml

from weatherdiff.errors import ConfigError

__all__ = ["Document", "parse_yaml"]


class Document(NamedTuple):
    """What a text holds, and where.

    Attributes
    ----------
    content : any
        Plain types.
    lines : dict
        Number of the line of each key and list item, by its path: ``("data", "levels", "0")``.
    """

    content: Any
    lines: dict[tuple[str, ...], int]


def parse_yaml(text: str, name: str) -> Document:
    r"""Read YAML.

    Parameters
    ----------
    text : str
        One document.
    name : str
        Where it is from, for messages.

    Raises
    ------
    ConfigError
        It is not YAML, has a key twice, or something that other readers read differently; the
        line is named.

    Examples
    --------
    >>> parse_yaml("start: 2018-07-20T06:00\nrate: 1e-3", "a.yaml").content
    {'start': '2018-07-20T06:00', 'rate': 0.001}
    >>> parse_yaml("start: 12:00", "a.yaml")
    Traceback (most recent call last):
    ...
    weatherdiff.errors.ConfigError: a.yaml, line 1: 12:00 is a number to the base of sixty ...
    """
    lines: dict[tuple[str, ...], int] = {}
    loader = None
    try:
        loader = _Loader(text)
        loader.name = name
        node = loader.get_single_node()
        if node is None:
            return Document(None, lines)
        _note_lines(node, (), lines)
        return Document(loader.construct_document(node), lines)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: Not YAML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{name}: Not YAML that can be read: it is nested too deep.") from None
    finally:
        if loader is not None:
            loader.dispose()


_QUOTE = 'write "{text}", in quotes, for text'
_AMBIGUOUS: Mapping[str, tuple[str, str]] = {
    r"[-+]?[0-9][0-9_]*(:[0-9]{1,2})+(\.[0-9]*)?": (
        "is a number to the base of sixty in YAML 1.1",
        _QUOTE,
    ),
    r"[-+]?0[0-9_]+": (
        "is an octal number in YAML 1.1 and none in 1.2",
        _QUOTE + ", or the number without the leading zero",
    ),
    r"[-+]?0[box][0-9a-fA-F_]+": (
        "is a number in one version of YAML and text in another",
        _QUOTE + ", or the number in decimals",
    ),
    r"[-+]?[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?": (
        "is a number in YAML 1.1 and text in 1.2",
        _QUOTE + ", or the number without underscores",
    ),
    r"(yes|no|on|off|Yes|No|On|Off|YES|NO|ON|OFF|TRUE|FALSE)": (
        "is true or false in YAML 1.1 and text in 1.2",
        _QUOTE + ", or true or false",
    ),
}


class _Loader(yaml.SafeLoader):
    """YAML 1.2's plain scalars instead of 1.1's, and no key twice."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """One node; an alias of another is refused."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise ConfigError(
                f"{_place(event.start_mark)}: *{event.anchor} repeats another value; write it out."
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        if isinstance(node, yaml.ScalarNode) and node.style is None:
            for pattern, (what, instead) in _AMBIGUOUS.items():
                if re.fullmatch(pattern, node.value):
                    raise ConfigError(
                        f"{_place(node.start_mark)}: {node.value} {what}; "
                        f"{instead.format(text=node.value)}."
                    )
        return node


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
            raise ConfigError(f"{_place(key.start_mark)}: not a key.")
        name = loader.construct_object(key)
        if name in seen:
            raise ConfigError(
                f"{_place(key.start_mark)}: the key {name!r} is there already, in line "
                f"{seen[name]}."
            )
        seen[name] = key.start_mark.line + 1
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    if len(node.value) > 20:  # which Python refuses from 4300 digits on, with another error
        raise ConfigError(f"{_place(node.start_mark)}: a number of {len(node.value)} digits.")
    return int(node.value)


_Loader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)


def _note_lines(node: yaml.Node, path: tuple[str, ...], lines: dict[tuple[str, ...], int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                lines[(*path, key.value)] = key.start_mark.line + 1
                _note_lines(value, (*path, key.value), lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*path, str(index))] = value.start_mark.line + 1
            _note_lines(value, (*path, str(index)), lines)


def _place(mark: Any) -> str:
    return f"{mark.name}, line {mark.line + 1}"
