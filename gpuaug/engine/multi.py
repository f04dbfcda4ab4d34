"""Several views of each image from one batch: a list for each, and one numbering of the draws for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast, overload

import torch
from torch import Tensor, nn

from gpuaug import checks, compat
from gpuaug.engine.batch import Images, check_images
from gpuaug.engine.call import Draw
from gpuaug.engine.export import EvalModule
from gpuaug.engine.listed import Labels, Pictures, Steps
from gpuaug.engine.module import NumberedModule
from gpuaug.engine.numbering import Mode, Reservation
from gpuaug.engine.scenes import views_of
from gpuaug.engine.settings import DEFAULTS, listing, written_call
from gpuaug.engine.targets import is_structured
from gpuaug.engine.views import MultiCall, View, gathered, is_nested, lists_of, made_view, named, shared_steps
from gpuaug.transforms.corners import CropViews

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["MultiView"]

NOT_TRACED = (
    "MultiView: draws and kernels cannot be traced or exported. Export multi.eval_module((height, width)) in its place."
)


class MultiView(NumberedModule):
    """Augment each batch several times, with a list for each view: SimCLR's pairs, DINO's global and local crops.

    The views are made from one batch on the device, which is uploaded once and copied nowhere. Each view has a draw of
    its own, a function of (seed, number of the view, epoch, index, look, step): it does not depend on the lists of
    other views. View 0 has the draw of an `Augment` of its list with the same seed. One call uses up one look at each
    image. See docs/views.md.

    Args:
        views: A list of transforms, or a Compose, for each view; or FiveCrop or TenCrop. The same list may be there
            several times: its views differ. MixUp and CutMix mix each view with its own draw.
        eval: The list for evaluation, which makes one view, or a list of lists, which makes a view for each: at most
            as many as `views`. None: derived from the first of `views`, as `Augment` does.
        shared: Transforms that begin each list and whose draw all views share, such as the crop of AugMix's clean and
            augmented images. Noise for each pixel differs from view to view.
        seed: Seed of all draws, as for `Augment`.
        backend, memory_format, exact, mask_fill, erase_masks, flip_pairs, same: As for `Augment`, for all views.

    Attributes:
        views: The views' lists: `views[n].train_pipeline` and `views[n].eval_pipeline`.

    Raises:
        ValueError: If a list is not one that `Augment` takes, or an argument is out of range.
    """

    views: Sequence[View]  # an nn.ModuleList

    def __init__(
        self,
        views: Sequence[Steps] | CropViews,
        eval: Steps | Sequence[Steps] | None = None,
        *,
        shared: Steps = (),
        seed: int | None = None,
        backend: str = "auto",
        memory_format: torch.memory_format = torch.contiguous_format,
        exact: bool = False,
        mask_fill: float = 0,
        erase_masks: bool = False,
        flip_pairs: Sequence[tuple[int, int]] | None = None,
        same: Sequence[str] | Sequence[Sequence[str]] = (),
    ) -> None:
        super().__init__(seed)
        given = locals()
        lists, first = lists_of(self, views), shared_steps(self, shared)
        nested = is_nested(eval)
        evals: list[Any] = list(cast("Sequence[Steps]", eval)) if nested else [eval]
        if len(evals) > len(lists):
            got = f"{len(evals)} for {len(lists)} views"
            raise checks.argument_error(self, "eval", "one list, or a list for each view at most", got)
        self._shared, self._evaluated, self._derived = len(first), len(evals), eval is None
        arguments = {name: given[name] for name in DEFAULTS}
        evals += [()] * (len(lists) - len(evals))
        made = [
            made_view(number, [*first, *steps], own, len(first), arguments, nested)
            for number, (steps, own) in enumerate(zip(lists, evals, strict=True))
        ]
        self.views = nn.ModuleList(made)  # type: ignore[assignment]

    def __len__(self) -> int:
        """Number of views in training."""
        return len(self.views)

    def __getattr__(self, name: str) -> Any:
        """An argument beside the lists, which all views have."""
        if name in DEFAULTS:
            return getattr(cast("Any", super().__getattr__("views"))[0], name)
        return super().__getattr__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Arguments that are set later are checked, and set for all views."""
        if name not in DEFAULTS:
            super().__setattr__(name, value)
            return
        for view in self.views:
            setattr(view, name, value)

    def draws_globally(self, training: bool) -> bool:
        """Whether a step of any view draws from torch's global generator, as opaque steps do."""
        return any(view.draws_globally(training) for view in self._active(training))

    @overload
    def forward(self, images: Images, labels: None = None, *, index: Tensor | None = None) -> list[Tensor]: ...
    @overload
    def forward(
        self, images: Images, labels: Tensor, *, index: Tensor | None = None
    ) -> tuple[list[Tensor], Tensor | list[Tensor]]: ...
    @overload
    def forward(
        self, images: Images, labels: Labels, *, index: Tensor | None = None
    ) -> tuple[list[Tensor], Labels | list[Labels]]: ...
    @overload
    def forward(
        self, images: Pictures, labels: None = None, *, index: Tensor | None = None
    ) -> list[dict[str, Tensor]]: ...
    @overload
    def forward(
        self, images: Pictures, labels: Labels, *, index: Tensor | None = None
    ) -> tuple[list[dict[str, Tensor]], Labels | list[Labels]]: ...
    @torch.compiler.disable(reason=NOT_TRACED)  # type: ignore[no-untyped-call, untyped-decorator]
    def forward(
        self, images: Images | Pictures, labels: Labels | None = None, *, index: Tensor | None = None
    ) -> list[Tensor] | list[dict[str, Tensor]] | tuple[list[Tensor] | list[dict[str, Tensor]], Labels | list[Labels]]:
        """Make the views of a batch.

        Args:
            images, labels, index: As for `Augment`.

        Returns:
            A list with the images of each view, as `Augment` returns them; in evaluation with one, or with as many as
            there are lists in `eval`. With labels, (views, labels): the labels once, as they were given; or a list
            with those of each view, if a list mixes, or if they are targets, which follow the pixels.

        Raises:
            RuntimeError: If the call is traced or exported; see `eval_module`.
        """
        if compat.is_tracing() or torch.compiler.is_exporting():
            raise RuntimeError(NOT_TRACED)
        with self.prepare(images, labels, index=index) as call:
            return call.run()

    if TYPE_CHECKING:
        __call__ = forward

    def prepare(
        self, images: Images | Pictures, labels: Labels | None = None, *, index: Tensor | None = None,
        mode: Mode | None = None,
    ) -> MultiCall:  # fmt: skip
        """Check a batch and reserve its draws, as `Augment.prepare` does. One reservation serves all views.

        Args:
            images, labels, index, mode: As for `Augment.prepare`.
        """
        training = self.training if mode is None else mode.training
        first = self._first(images, labels)
        return self._prepared(images, labels, self._numbering.take(first, index, mode, training), training)

    def _first(self, images: Images | Pictures, labels: Any) -> Images:
        """The images, or the first of several pictures; raises an error if they cannot be augmented."""
        if type(images) is not Tensor and isinstance(images, Mapping):
            return views_of(self, images, labels).first
        check_images(self, images)
        return images

    def _prepared(
        self, images: Any, labels: Any, reservation: Reservation, training: bool, mixes: bool = True
    ) -> MultiCall:
        views, keys = self._active(training), reservation.keys
        owns = [Reservation(replace(keys, view=keys.view | number)) for number in range(len(views))]
        try:
            calls = [
                named(number, view.keyed, images, labels, own, training, mixes)
                for number, (view, own) in enumerate(zip(views, owns, strict=True))
            ]
        except BaseException:
            reservation.release()
            raise
        return MultiCall(calls, reservation, labels is not None, self._has_labels_apart(labels, training))

    def _has_labels_apart(self, labels: Any, training: bool) -> bool:
        """Whether each view has labels of its own."""
        return is_structured(labels) or any(view.mixes(training) for view in self._active(training))

    def sample(
        self, images: Images | Pictures, labels: Labels | None = None, *, index: Tensor | None = None
    ) -> list[Draw] | list[dict[str, Draw]]:
        """Draw the parameters of each view for a batch of this shape, as `Augment.sample` does.

        Args:
            images, labels, index: As for `Augment.sample`.
        """
        taken = self._numbering.take(self._first(images, labels), index, None, self.training)
        with self._prepared(images, labels, taken, self.training, mixes=False) as call:
            return call.draw()

    def render(
        self,
        images: Images | Pictures,
        draws: Sequence[Draw] | Sequence[Mapping[str, Draw]],
        labels: Labels | None = None,
    ) -> list[Tensor] | list[dict[str, Tensor]] | tuple[list[Tensor] | list[dict[str, Tensor]], Labels | list[Labels]]:
        """Render what `sample` returned, with the result of a call.

        Args:
            images, labels: As for `forward`.
            draws: The draw of each view.

        Raises:
            ValueError: If `sample` did not return the draws, or the images have other sizes than those they are for.
        """
        self._first(images, labels)
        counts = {len(self.views), self._evaluated}
        if not isinstance(draws, (list, tuple)) or len(draws) not in counts:
            got = checks.describe(draws) if not isinstance(draws, (list, tuple)) else f"{len(draws)} draws"
            raise checks.argument_error(self, "draws", "what `sample` returned, a list", got)
        results = [
            named(number, view.rendered, images, draw, labels)
            for number, (view, draw) in enumerate(zip(self.views, draws, strict=False))
        ]
        drawn = draws[0] if isinstance(draws[0], Draw) else next(iter(draws[0].values()))
        return gathered(results, labels is not None, self._has_labels_apart(labels, drawn.training))

    def eval_module(self, size: int | tuple[int, int], channels: int = 3) -> EvalModule:
        """The evaluation list, or the first of several, as plain torch operations; see `Augment.eval_module`.

        Args:
            size: Size of the images, an int or (height, width), in pixels.
            channels: Number of channels of the images.
        """
        return self.views[0].eval_module(checks.size("MultiView.eval_module", size), channels)

    def _active(self, training: bool) -> list[View]:
        """The views of a mode."""
        return list(self.views)[: None if training else self._evaluated]

    def __copy__(self) -> Self:
        clone = super().__copy__()
        clone.views = nn.ModuleList(copy(view) for view in self._active(training=True))  # type: ignore[assignment]
        return clone

    def __repr__(self) -> str:
        made = self._active(training=True)
        lists = {"views": listing([listing(view.train_pipeline.steps[self._shared :], 2) for view in made])}
        if not self._derived:
            evals = [view.eval_pipeline.steps for view in made[: self._evaluated]]
            nested = listing([listing(steps, 2) for steps in evals])
            lists["eval"] = listing(evals[0]) if len(evals) == 1 else nested
        if self._shared:
            lists["shared"] = listing(made[0].train_pipeline.steps[: self._shared])
        return written_call("MultiView", lists, self, self._numbering.given)
