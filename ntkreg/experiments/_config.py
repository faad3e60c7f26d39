"""The fields of experiments' Configs: checks that name field and value, and flags made of them."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

Config = Any  # a frozen dataclass of numbers, words and tuples of these


def check_field(name: str, value: Any, good: Callable[[Any], bool], wanted: str) -> None:
    """Raises ValueError where `value`, or one of its entries if it is a tuple, is not good."""
    values = value if isinstance(value, tuple) else (value,)
    if not values:
        raise ValueError(f"{name} must have at least one value, got none")
    for entry in values:
        if not good(entry):
            raise ValueError(f"{name} must be {wanted}, got {entry}")


def check_distinct(config: Config, *names: str) -> None:
    """Raises ValueError where a field of these names has a value twice: it would be run twice."""
    for name in names:
        values = getattr(config, name)
        for value in values:
            if values.count(value) > 1:
                raise ValueError(f"{name} must have each value once, got {value} twice")


def one_of(values: Collection) -> tuple[Callable[[Any], bool], str]:
    """The check, and its words, that a value is one of `values`."""
    return (lambda value: value in values), f"one of {', '.join(map(str, values))}"


def restored(kind: type, fields: Mapping[str, Any]) -> Config:
    """The Config whose fields JSON kept, which has lists for tuples.

    Raises:
      ValueError: for fields of another version.
    """
    for name in fields.keys() ^ {field.name for field in dataclasses.fields(kind)}:
        raise ValueError(f"the results' fields must be those of Config, {name} is only in one")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})


def changed(config: Config, texts: Mapping[str, str]) -> Config:
    """The Config with other values in some fields, given as text; lists as a,b,c.

    Raises:
      ValueError: for a text that is no value of its field.
    """
    kinds = {field.name: field.default for field in dataclasses.fields(config)}
    given = {name: _parsed(name, text, kinds[name]) for name, text in texts.items()}
    return dataclasses.replace(config, **given)


def kind_of(default: Any) -> type:
    """The type of a field's values, or of its entries."""
    return type(default[0]) if isinstance(default, tuple) else type(default)


def _parsed(name: str, text: str, default: Any) -> Any:
    try:
        values = tuple(kind_of(default)(part) for part in text.split(",") if part)
    except ValueError:
        raise ValueError(f"--{name} must hold {kind_of(default).__name__}, got {text}") from None
    if isinstance(default, tuple):
        return values
    if len(values) != 1:
        raise ValueError(f"--{name} must be one {kind_of(default).__name__}, got {text!r}")
    return values[0]
