"""YAML as plain data, with the line that each value stands on."""

from __future__ import annotations

from typing import Any

import yaml

from chaosd.errors import ChaosdError

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_NODES = 20_000
Path = tuple[str | int, ...]


def read(text: str, name: str) -> tuple[Any, dict[Path, int]]:
    """One document; see ``document.load``."""
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ChaosdError(f"{name}:{line}: not YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ChaosdError(f"{name}: not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ChaosdError(f"{name}: nested too deeply") from None
    if root is None:
        return None, {}
    lines: dict[Path, int] = {}
    return _plain(root, (), lines, name), lines


def _plain(node: yaml.Node, path: Path, lines: dict[Path, int], name: str) -> Any:
    lines[path] = node.start_mark.line + 1
    if len(lines) > _MAX_NODES or len(path) > 50:
        raise ChaosdError(f"{name}:{lines[path]}: too large for a scenario")
    if isinstance(node, yaml.SequenceNode):
        return [_plain(child, (*path, i), lines, name) for i, child in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, lines, name)
    try:
        return yaml.constructor.SafeConstructor().construct_object(node)
    except (yaml.YAMLError, ValueError, OverflowError):
        raise ChaosdError(f"{name}:{lines[path]}: cannot read {node.value!r}") from None


def _mapping(node: yaml.MappingNode, path: Path, lines: dict[Path, int], name: str) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise ChaosdError(f"{name}:{line}: a key must be a word")
        key = str(key_node.value)
        if key in data:
            raise ChaosdError(f"{name}:{line}: {key} stands here twice")
        data[key] = _plain(value_node, (*path, key), lines, name)
        lines[*path, key] = line
    return data
