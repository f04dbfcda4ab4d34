"""Names of classes: which of them a flip, a rotation or a change of colour turns into one another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["are_characters", "colours", "flipped_left_right", "flipped_up_down", "turned"]

Pair = tuple[str, str]

LEFT_RIGHT = {"left": "right", "leftward": "rightward", "lh": "rh", "clockwise": "counterclockwise",
              "east": "west", "b": "d", "p": "q", "<": ">", "(": ")", "[": "]", "{": "}", "/": "\\"}  # fmt: skip
UP_DOWN = {"up": "down", "upward": "downward", "top": "bottom", "upper": "lower", "above": "below", "north": "south",
           "clockwise": "counterclockwise", "b": "p", "d": "q", "m": "w", "n": "u", "^": "v", "6": "9",
           "/": "\\"}  # fmt: skip
HALF_TURN = {"left": "right", "up": "down", "top": "bottom", "upper": "lower", "north": "south", "east": "west",
             "6": "9", "b": "q", "d": "p", "n": "u", "m": "w", "<": ">", "^": "v"}  # fmt: skip
QUARTER_TURN = {"left": "up", "right": "down", "north": "east", "south": "west", "n": "z", "-": "|",
                "horizontal": "vertical", "<": "^", ">": "v"}  # fmt: skip

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLOURS = {
    "red", "green", "blue", "yellow", "orange", "purple", "violet", "pink", "brown", "black", "white", "grey", "gray",
    "golden", "silver", "cyan", "magenta", "beige", "ripe", "unripe",
}  # fmt: skip
SPELLINGS = {"anticlockwise": "counterclockwise", **{word: str(number) for number, word in enumerate(WORDS)}}
SIGNS = re.compile(r"[<>()\[\]{}/\\^|-]")


def flipped_left_right(names: Sequence[str]) -> list[Pair]:
    """Pairs of classes that a horizontal flip exchanges, such as ("left turn", "right turn")."""
    return list(_pairs(names, LEFT_RIGHT))


def flipped_up_down(names: Sequence[str]) -> list[Pair]:
    """Pairs of classes that a vertical flip exchanges."""
    return list(_pairs(names, UP_DOWN))


def turned(names: Sequence[str], degrees: float) -> list[Pair]:
    """Pairs of classes that a rotation of up to so many degrees, either way, turns into one another or close to it."""
    words = (QUARTER_TURN if degrees >= 60 else {}, HALF_TURN if degrees >= 120 else {})
    return list(dict.fromkeys(pair for table in words for pair in _pairs(names, table)))


def colours(names: Sequence[str]) -> list[str]:
    """Classes whose names differ in the name of a colour only, such as "red apple" and "green apple"."""
    found: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        words = _words(name)
        if COLOURS & set(words):
            found.setdefault(tuple(word for word in words if word not in COLOURS), []).append(name)
    return [name for group in found.values() if len(group) > 1 for name in group]


def are_characters(names: Sequence[str]) -> bool:
    """Whether at least four in five classes, and at least five, are single letters or digits, or digits as words."""
    single = [name for name in names if all(len(word) == 1 and word.isalnum() for word in _words(name)) and name]
    return len(single) >= 5 and len(single) >= 0.8 * len(names)


def _pairs(names: Iterable[str], table: Mapping[str, str]) -> Iterator[Pair]:
    """Pairs of names of which one becomes the other when each word is replaced by its opposite."""
    both = {**table, **{other: word for word, other in table.items()}}
    known = {_words(name): name for name in names}
    for words, name in known.items():
        opposite = known.get(tuple(both.get(word, word) for word in words))
        if opposite is not None and opposite != name and words < _words(opposite):
            yield name, opposite


def _words(name: str) -> tuple[str, ...]:
    """The words of a name in lower case: "TurnLeft", "turn_left" and "turn left" are ("turn", "left")."""
    if SIGNS.fullmatch(name.strip()):
        return (name.strip(),)
    parts = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+", name)
    return tuple(SPELLINGS.get(part.lower(), part.lower()) for part in parts)
