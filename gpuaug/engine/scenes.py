"""Several pictures of each scene, such as those of two cameras: a mapping of batches, each with its own draw."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from gpuaug import checks
from gpuaug.engine.batch import Images
from gpuaug.engine.call import Call, Draw, Reserved
from gpuaug.engine.numbering import NAMED, Reservation
from gpuaug.engine.pipeline import Pipeline
from gpuaug.engine.target_checks import check_name, is_other_name, kind_of
from gpuaug.engine.targets import is_structured
from gpuaug.program import Keys
from gpuaug.ragged import Ragged

__all__ = ["Scene", "Views", "check_mix", "checked_same", "render_scene", "views_of"]

Same = tuple[str, ...] | tuple[tuple[str, ...], ...]
T = TypeVar("T")


class Views(NamedTuple):
    """The pictures of each scene by name, with their labels.

    given: Labels as the user passed them. common: Whether they are of the whole scene; the first picture carries them.
    Otherwise they are a mapping, of which what has no picture's name is carried along.
    """

    images: dict[str, Images]
    given: Any
    common: bool

    @property
    def first(self) -> Images:
        return next(iter(self.images.values()))

    def labels(self, name: str) -> Any:
        """The labels of one picture."""
        if not self.common:
            return self.given.get(name)
        return self.given if self.carries(name) else None

    def carries(self, name: str) -> bool:
        """Whether a picture is called with labels."""
        return not self.common or name == next(iter(self.images))

    def drawn_as(self, same: Any) -> dict[str, str]:
        """Whose draw each picture has: its own, or that of the first of its group in `same`."""
        groups = same if same and not isinstance(same[0], str) else (same,)
        return {name: next((group[0] for group in groups if name in group), name) for name in self.images}

    def each(self, function: Callable[[str, Images], T]) -> dict[str, T]:
        """What a function returns for each picture; its errors say which picture they are about."""
        found = {}
        for name, images in self.images.items():
            try:
                found[name] = function(name, images)
            except ValueError as error:
                raise ValueError(f'{error} This is about "{name}".') from error
        return found

    def gathered(self, results: Mapping[str, Any]) -> Any:
        """The pictures of calls; with labels, (pictures, labels)."""
        parts = {name: result if isinstance(result, tuple) else (result, None) for name, result in results.items()}
        pictures = {name: picture for name, (picture, _) in parts.items()}
        if self.given is None:
            return pictures
        if self.common:
            return pictures, next(iter(parts.values()))[1]
        return pictures, {key: parts[key][1] if key in parts else value for key, value in self.given.items()}


def checked_same(owner: object, same: Any) -> Same:
    """The checked argument `same`: names, or groups of names, that share a draw."""
    given = tuple(same) if isinstance(same, Sequence) and not isinstance(same, str) else (same,)
    flat = all(isinstance(name, str) for name in given) and not isinstance(same, str)
    groups = [given] if flat else [tuple(group) if isinstance(group, (list, tuple)) else (None,) for group in given]
    names = [name for group in groups for name in group]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        expected = "names of images, or groups (name, name, ...) of them, each name once"
        raise checks.argument_error(owner, "same", expected, checks.describe(same))
    return given if flat else tuple(groups)


def views_of(owner: object, images: Mapping[str, Images], labels: Any) -> Views:
    """Raise an error if a mapping does not hold one picture of each scene by each name."""
    count = None
    for name, value in images.items():
        image = isinstance(value, Ragged) or (isinstance(value, Tensor) and value.ndim > 3)
        if not isinstance(name, str) or not image:
            remedy = "Keep what is no image, such as states and actions, beside the mapping."
            got = checks.describe(value) if isinstance(name, str) else f"the key {name!r}"
            raise checks.argument_error(owner, f'images["{name}"]', "a batch of images or clips", got, remedy)
        if kind_of(name, value) in ("masks", "boxes", "keypoints") or is_other_name(name, value):
            remedy = 'Pass targets beside images: augment(images, {"masks": ...}), see docs/targets.md.'
            expected = "a picture, as targets under such a name would have a draw of their own"
            raise checks.argument_error(owner, f'images["{name}"]', expected, checks.describe(value), remedy)
        count = len(value) if count is None else count
        if len(value) != count:
            expected = f"as many as the others, {count}"
            raise checks.argument_error(owner, f'images["{name}"]', expected, checks.describe(value))
    if count is None:
        raise checks.argument_error(owner, "images", "a mapping with at least one batch of images", "an empty one")
    named = isinstance(labels, Mapping) and bool(labels)
    if named:
        for key in labels.keys() - images.keys():
            _check_carried(owner, key, labels[key], next(iter(images)))
    elif labels is not None and is_structured(labels):
        expected = "class labels, or a mapping with the targets of each picture under its name"
        remedy = f'Pass {{"{next(iter(images))}": targets}}.'
        got = "an empty mapping" if isinstance(labels, Mapping) else type(labels).__name__
        raise checks.argument_error(owner, "labels", expected, got, remedy)
    return Views(dict(images), labels, common=not named)


def _check_carried(owner: object, key: object, value: object, name: str) -> None:
    """Raise an error if a key that is no picture's, and is carried along, holds what has to move with a picture."""
    kind = kind_of(key, value)
    if kind in (None, "labels"):
        check_name(owner, key, value, None)
        return
    remedy = f'Pass {{"{name}": {{"{key}": ...}}}}, with the name of its picture.'
    expected = "under the name of a picture, as it moves with its pixels"
    raise checks.argument_error(owner, f'labels["{key}"]', expected, checks.describe(value), remedy)


def keys_of(keys: Keys, name: str) -> Keys:
    """The keys of the pictures of one name, from those of the scenes."""
    word = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    return replace(keys, stream=(NAMED, word, *keys.stream))


def check_mix(owner: object, pipeline: Pipeline, views: Views, draws: Iterable[object]) -> None:
    """Raise an error if pictures with common labels are mixed in several ways, by what tells their draws apart."""
    if pipeline.mix is not None and views.common and views.given is not None and len(set(draws)) > 1:
        name = type(pipeline.mix).__name__
        remedy = f"Use Augment(..., same={tuple(views.images)!r}), or pass labels for each picture."
        expected = f"pictures that share a draw with {name}, which mixes their labels"
        raise checks.argument_error(owner, "images", expected, ", ".join(views.images), remedy)


def render_scene(owner: object, images: Any, draws: Any, labels: Any, render: Callable[..., Any]) -> Any:
    """Render a draw for each picture. `render` renders one: (images, draw, labels)."""
    views = views_of(owner, images, labels)
    if not isinstance(draws, Mapping) or draws.keys() != views.images.keys():
        expected, got = "what `sample` returned for these pictures", checks.describe(draws)
        raise checks.argument_error(owner, "draw", expected, got, "Call sample(images) for this mapping.")
    for draw in draws.values():
        if isinstance(draw, Draw) and draw.pipeline is not None:
            check_mix(owner, draw.pipeline, views, [each.keys.key for each in draws.values()])
    return views.gathered(views.each(lambda name, picture: render(picture, draws[name], views.labels(name))))


@dataclass(frozen=True)
class Scene(Reserved):
    """The result of `Augment.prepare` for several pictures of each scene; used as a `Call`.

    calls: The call of each picture, by its name. reservation: The keys of the scenes.
    """

    calls: dict[str, Call]
    views: Views
    reservation: Reservation

    @classmethod
    def of(cls, views: Views, same: Any, reservation: Reservation, call: Callable[..., Call]) -> Scene:
        """A call for each picture. `call` makes one: (name, images, reservation)."""
        names = views.drawn_as(same)

        def one(name: str, picture: Images) -> Call:
            return call(name, picture, Reservation(keys_of(reservation.keys, names[name])))

        try:
            return cls(views.each(one), views, reservation)
        except ValueError:
            reservation.release()
            raise

    def run(self) -> Any:
        """Render the pictures: a mapping by their names; with labels, (pictures, labels)."""
        return self.views.gathered({name: call.run() for name, call in self.calls.items()})

    def draw(self) -> dict[str, Draw]:
        """The parameters of every step, for each picture."""
        return {name: call.draw() for name, call in self.calls.items()}
