"""YAML documents turned into typed values, with every mistake at once and where it stands."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, TypeVar, get_type_hints

import msgspec

from chaosd.errors import ChaosdError

T = TypeVar("T", bound=msgspec.Struct)
_PARAMETER = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_WORD = re.compile(r"[\w./:-]{1,40}")
_A_LINE = 20  # words
Path = tuple[str | int, ...]


class Problems:
    """Everything that is wrong with one document, in the order of its lines."""

    def __init__(self, name: str, lines: Mapping[Path, int] | None = None) -> None:
        self.name = name
        self._lines = lines or {}
        self._found: dict[tuple[int, str], None] = {}

    def add(self, path: Path, message: str, hint: str = "") -> None:
        """Note a mistake at a place in the document."""
        spot = path
        while spot and spot not in self._lines:
            spot = spot[:-1]
        line = self._lines.get(spot, 0)
        where = f"{self.name}:{line}" if line else self.name
        key = ".".join(str(part) for part in path)
        said = f"{where}: {key}: {message}" if key else f"{where}: {message}"
        self._found[line, _one_line(f"{said} ({hint})" if hint else said)] = None

    def __len__(self) -> int:
        return len(self._found)

    def raise_any(self) -> None:
        """Raise one ``ChaosdError`` with a line for each mistake, if there is any."""
        if self._found:
            raise ChaosdError("\n".join(text for _, text in sorted(self._found)))


def _one_line(text: str) -> str:
    # what stands in a document may be anything, also what a terminal would obey
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def near(word: str, known: Iterable[str], see: str = "") -> str:
    """A hint for a word that is not known: the nearest one, or all of them.

    Args:
        word: what was written.
        known: what could have been.
        see: what lists these, where they are too many for a line.
    """
    words = sorted(known)
    close = difflib.get_close_matches(word, words, 3)
    close.sort(key=lambda known: abs(len(known) - len(word)))
    if close:
        return f"did you mean {close[0]}?"
    return f"see: {see}" if see and len(words) > _A_LINE else f"one of {', '.join(words)}"


def load(text: str, name: str) -> tuple[Any, dict[Path, int]]:
    """Read one YAML document.

    Returns:
        Plain data, and for each place in it the line it stands on, from 1.

    Raises:
        ChaosdError: it is not YAML, has a key twice, or is larger than any scenario.
    """
    from chaosd import markup  # late: what is named on a command line needs no YAML

    return markup.read(text, name)


def scalar(text: str) -> Any:
    """What a word on the command line would mean in YAML, lists such as ``[80, 443]`` included."""
    return load(text, repr(text))[0] if text.strip() else text


def substitute(value: Any, parameters: Mapping[str, Any], path: Path, problems: Problems) -> Any:
    """Put parameters where ``${name}`` stands; a word that is nothing else takes the value's type."""
    if isinstance(value, dict):
        return {k: substitute(v, parameters, (*path, k), problems) for k, v in value.items()}
    if isinstance(value, list):
        return [substitute(v, parameters, (*path, i), problems) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value
    for word in _PARAMETER.findall(value):
        if word not in parameters:
            problems.add(path, f"there is no parameter {word!r}", near(word, parameters))
            return value
    whole = _PARAMETER.fullmatch(value)
    if whole:
        return parameters[whole[1]]
    return _PARAMETER.sub(lambda match: str(parameters[match[1]]), value)


def _hook(kind: type, value: Any) -> Any:
    parse = getattr(kind, "parse", None)
    if parse is None:
        raise NotImplementedError(f"no way to read a {kind}")
    try:
        return parse(value)
    except TypeError as error:  # msgspec would take it for a wrong value, and it is a mistake in parse
        raise RuntimeError(f"{kind.__name__} cannot read a {type(value).__name__}") from error


def convert(value: Any, kind: Any) -> Any:
    """One value as a type; classes with a ``parse`` method read what users write.

    Raises:
        ChaosdError: it is not one.
    """
    try:
        return msgspec.convert(value, kind, dec_hook=_hook)
    except (msgspec.ValidationError, ValueError, OverflowError) as error:
        item = value if _WORD.fullmatch(str(value)) else "1, 2"
        said = str(error).replace(" - at `$`", "").replace("`array`", f"a list such as [{item}]")
        raise ChaosdError(said.replace("`", "")) from None


def read(kind: type[msgspec.Struct], data: Any, path: Path, problems: Problems) -> dict[str, Any]:
    """The fields of ``kind`` that are right in a mapping; every wrong, missing or unknown one is noted."""
    fields = _fields(kind)
    if not isinstance(data, dict):
        problems.add(path, f"must be a mapping, not {type(data).__name__}", f"with {', '.join(fields)}")
        return {}
    for key in data.keys() - fields.keys():
        problems.add((*path, key), "unknown key", near(key, fields))
    for name, default in defaults(kind).items():
        if default is msgspec.NODEFAULT and name not in data:
            problems.add(path, f"{name} is missing")
    values = {}
    for key in fields.keys() & data.keys():
        try:
            values[key] = convert(data[key], fields[key])
        except ChaosdError as error:
            problems.add((*path, key), error.message, error.hint)
    return values


def build(kind: type[T], data: Any, path: Path, problems: Problems) -> T | None:
    """A typed value from a mapping, or None when anything in it is wrong and was noted."""
    before = len(problems)
    values = read(kind, data, path, problems)
    return kind(**values) if len(problems) == before else None


def named(item: Any, path: Path, problems: Problems, what: str) -> tuple[str, dict[str, Any]] | None:
    """The one name and its fields of an item such as ``{http: {url: ...}}``; a bare name has none.

    Args:
        item: the item.
        path: where it stands.
        problems: notes what is wrong with it; None is returned then.
        what: a word for what is named.
    """
    if isinstance(item, str):
        return item, {}
    if isinstance(item, dict) and len(item) == 1:
        name, fields = next(iter(item.items()))
        if fields is None or isinstance(fields, dict):
            return name, dict(fields or {})
    problems.add(path, f"must be one {what} with its fields", "such as {NAME: {key: value}}")
    return None


@cache  # msgspec evaluates the annotations of a class to say this, which takes as long as reading a scenario
def defaults(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """What each field is where nothing is said; ``msgspec.NODEFAULT`` for one that must be given."""
    return {
        field.name: field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        for field in msgspec.structs.fields(kind)
    }


@cache
def _fields(kind: type[msgspec.Struct]) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {name: hints[name] for name in kind.__struct_fields__}
