"""From a YAML file to a `Config`, every error with its line and column.

YAML is read as 1.2's core schema says: `true` and `false` are the only booleans, there are no
sexagesimal numbers and no dates; what PyYAML makes of `on`, `12:30` and `1e3` by default surprises people.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from edged.config.fields import NAME
from edged.config.schema import Config
from edged.errors import ConfigError, Problem

MAX_FILE_BYTES = 1 << 18
"""PyYAML takes two seconds for so much in the worst case."""
MAX_NODES = 100_000
"""After aliases are expanded, so that a small file can't fill the memory."""

_NULL = re.compile(r"^(~|null|Null|NULL|)$")
_BOOL = re.compile(r"^(true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"^([-+]?[0-9]{1,20}|0o[0-7]{1,22}|0x[0-9a-fA-F]{1,16})$")
"""Longer ones are read as floats: Python refuses to convert very long ones."""
_FLOAT = re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$")
_TAGS = {
    f"tag:yaml.org,2002:{kind}"
    for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "merge", "value")
}

Path_ = tuple[Any, ...]
M = TypeVar("M", bound=BaseModel)


class Document:
    """A YAML file as plain data, with the place of every key and value."""

    def __init__(self, name: str, text: str) -> None:
        """Raises ConfigError when it is no YAML, or too much of it."""
        self.name = name
        self.problems: list[Problem] = []
        """Faults that leave the rest readable; `validate` raises them with its own."""
        self._keys: dict[Path_, yaml.Mark] = {}
        self._values: dict[Path_, yaml.Mark] = {}
        self._nodes = 0
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            raise ConfigError([self._problem(mark, f"not YAML: {error.problem or error}")]) from error
        except yaml.reader.ReaderError as error:
            message = f"not YAML: the character U+{ord(text[error.position]):04X} is not allowed"
            raise ConfigError([_problem_at(name, text[: error.position], message)]) from error
        except RecursionError as error:
            raise ConfigError([Problem(name, 1, 1, "too deep")]) from error
        self.data: Any = {} if node is None else self._plain(node, (), ())

    def problem(self, path: Path_, message: str, *, at_key: bool = False) -> Problem:
        """A problem at the nearest place in the file that `path` leads to."""
        marks = self._keys if at_key else self._values
        for length in range(len(path), -1, -1):
            mark = marks.get(path[:length]) or self._values.get(path[:length])
            if mark:
                return self._problem(mark, message)
        return Problem(self.name, 1, 1, message)

    def _problem(self, mark: yaml.Mark | None, message: str) -> Problem:
        return Problem(self.name, mark.line + 1 if mark else 1, mark.column + 1 if mark else 1, message)

    def _plain(self, node: yaml.Node, path: Path_, above: tuple[yaml.Node, ...]) -> Any:  # noqa: ANN401
        self._values[path] = node.start_mark
        self._nodes += 1
        if node in above or self._nodes > MAX_NODES or len(path) > 50:
            what = "an alias holds itself" if node in above else "too large or too deep"
            raise ConfigError([*self.problems, self._problem(node.start_mark, what)])
        if node.tag not in _TAGS:
            self.problems.append(self._problem(node.start_mark, f"the tag {node.tag} is not allowed"))
        above = (*above, node)
        if isinstance(node, yaml.MappingNode):
            return dict(self._pairs(node, path, above))
        if isinstance(node, yaml.SequenceNode):
            return tuple(self._plain(one, (*path, place), above) for place, one in enumerate(node.value))
        return _scalar(node)

    def _pairs(self, node: yaml.MappingNode, path: Path_, above: tuple[yaml.Node, ...]) -> Iterator[Any]:
        seen: dict[str, yaml.Mark] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.problems.append(self._problem(key.start_mark, "a key has to be a plain word"))
                continue
            name = str(key.value)
            if name in seen:
                first = seen[name].line + 1
                message = f"'{name}' stands here a second time (first in line {first})"
                self.problems.append(self._problem(key.start_mark, message))
                continue
            place = (*path, name)
            seen[name] = self._keys[place] = key.start_mark
            yield name, self._plain(value, place, above)


def _scalar(node: Any) -> str | bool | int | float | None:  # noqa: ANN401 - of yaml's nodes
    text = str(node.value)
    if node.style is not None:  # quoted
        return text
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text.lower() == "true"
    if _INT.match(text):
        return int(text, {"o": 8, "x": 16}.get(text[1:2], 10))
    if _FLOAT.match(text):
        return float(text)
    return text


def _problem_at(name: str, before: str, message: str) -> Problem:
    """A problem behind the text `before`."""
    return Problem(name, before.count("\n") + 1, len(before) - before.rfind("\n"), message)


def read(path: Path) -> Document:
    """The file as a document.

    Raises:
        ConfigError: it can't be read, is too large, is no UTF-8, or no YAML.
    """
    name = str(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError([Problem(name, 1, 1, f"can't be read: {error.strerror}")]) from error
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError([Problem(name, 1, 1, f"larger than {MAX_FILE_BYTES} bytes")])
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode()
        raise ConfigError([_problem_at(name, before, "not UTF-8 text")]) from error
    return Document(name, text)


def validate(document: Document, model: type[M], folder: Path, **context: object) -> M:
    """The document as `model`; relative paths in it count from `folder`. Validators see `context`.

    Raises:
        ConfigError: with every fault and its place.
    """
    context |= {"folder": str(folder)}
    try:
        result = model.model_validate(document.data, strict=True, context=context)
    except ValidationError as error:
        # A value that stands for two keys (`rate_hz: 0` for idle and active) is still one fault.
        problems = list(dict.fromkeys([*document.problems, *_problems(document, error)]))
        raise ConfigError(sorted(problems, key=lambda one: (one.line, one.column))) from error
    if document.problems:
        raise ConfigError(document.problems)
    return result


def load(path: Path) -> Config:
    """The configuration in the file `path`.

    Raises:
        ConfigError: with every fault and its place.
    """
    return validate(read(path), Config, path.absolute().parent)


def _problems(document: Document, error: ValidationError) -> Iterator[Problem]:
    for fault in error.errors(include_url=False, include_input=False):
        path = _path(document.data, fault["loc"])
        context = fault.get("ctx", {})
        match fault["type"]:
            case "references":
                for place, message in context["faults"]:
                    yield document.problem(place, message)
            case "extra_forbidden":
                yield document.problem(path, f"unknown key '{path[-1] if path else ''}'", at_key=True)
            case "missing":
                yield document.problem(path, f"'{fault['loc'][-1]}' is missing here", at_key=True)
            case "union_tag_not_found":
                yield document.problem(path, "'kind' is missing here", at_key=True)
            case "union_tag_invalid":
                message = f"there is no kind '{context['tag']}'; there is {context['expected_tags']}"
                yield document.problem((*path, "kind"), message.replace("'", ""))
            case "model_type" | "model_attributes_type" | "dict_type":
                yield document.problem(path, "keys with values are wanted here")
            case "string_pattern_mismatch" if context["pattern"] == NAME:
                message = "a name has 1 to 63 of a-z 0-9 _ - and begins with a letter or digit"
                yield document.problem(path, message, at_key="[key]" in fault["loc"])
            case _:
                message = fault["msg"].removeprefix("Value error, ")
                yield document.problem(path, message[:1].lower() + message[1:])


def _path(data: Any, loc: tuple[int | str, ...]) -> Path_:  # noqa: ANN401
    """Pydantic's location without the names of union members and validators."""
    path: list[Any] = []
    for step in loc:
        inside = (
            step in data if isinstance(data, dict) else isinstance(data, tuple) and step in range(len(data))
        )
        if inside:
            data = data[step]
        else:
            continue
        path.append(step)
    return tuple(path)
