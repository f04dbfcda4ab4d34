"""What a list of transforms does to a batch: the lists of a module, its arguments, its casts, and its calls.

`Augment` is such a module with a numbering of the draws; the views of a `MultiView` are some that share one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from gpuaug import checks
from gpuaug.engine.batch import Images, canvas_of, check_images
from gpuaug.engine.call import Call, Draw, Output, check_drawn, render_draw
from gpuaug.engine.evaluation import DefaultEvaluation
from gpuaug.engine.export import EvalModule
from gpuaug.engine.follow import understood
from gpuaug.engine.numbering import Reservation
from gpuaug.engine.parts import check_parts
from gpuaug.engine.pipeline import Pipeline
from gpuaug.engine.render import choose
from gpuaug.engine.scenes import Scene, check_mix, render_scene, views_of
from gpuaug.engine.settings import checked
from gpuaug.engine.targets import Targets
from gpuaug.program import Keys
from gpuaug.ragged import Ragged
from gpuaug.transforms.base import Canvas, Transform
from gpuaug.transforms.convert import followed, kept
from gpuaug.transforms.function import Lambda
from gpuaug.transforms.opaque import Opaque

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Labels", "ListedModule", "Pictures", "Steps", "modules_of"]

Steps = Sequence[object] | Transform
Labels = Tensor | Mapping[str, object] | Sequence[Mapping[str, object]]
Pictures = Mapping[str, Images]  # several pictures of each scene, such as those of two cameras


class ListedModule(nn.Module):
    """A module with a list for training and one for evaluation, and with the arguments of `Augment` beside them."""

    backend: str
    memory_format: torch.memory_format
    exact: bool
    mask_fill: float
    erase_masks: bool
    flip_pairs: Any
    same: Any

    def _set_lists(self, train: Steps, eval: Steps | None, shared: int = 0) -> None:
        """The lists of the module. `shared`: number of the first steps whose draw all views of a call share."""
        self.train_pipeline = Pipeline(train, "train", shared)
        self._default_eval = DefaultEvaluation(self.train_pipeline.steps) if eval is None else None
        self.eval_pipeline = Pipeline(self._default_eval.steps if self._default_eval else cast("Steps", eval), "eval")

    def _set_arguments(self, *, backend: str, exact: bool, **others: Any) -> None:
        """The arguments beside the lists, which were set; each is checked."""
        self.backend, self.exact = backend, bool(exact)
        for name, value in others.items():
            setattr(self, name, value)
        if backend != "auto":
            choose(backend, torch.device("cuda" if backend == "triton" and torch.cuda.is_available() else "cpu"))
        self._follow_casts()
        self.opaque = nn.ModuleList(modules_of([*self.train_pipeline.steps, *self.eval_pipeline.steps]))

    def __setattr__(self, name: str, value: Any) -> None:
        """Arguments that are set later are checked as in the constructor."""
        super().__setattr__(name, checked(self, name, value))

    def draws_globally(self, training: bool) -> bool:
        """Whether a step draws from torch's global generator, as opaque steps do."""
        return self._pipeline(training).draws_globally

    # ---- calls -------------------------------------------------------------------------------------------------------

    def _scene(
        self, images: Pictures, labels: Any, training: bool, take: Callable[[Images], Reservation], mixes: bool = True
    ) -> Scene:
        """A call of several pictures of each scene, which one reservation serves. `take` takes it, after all checks."""
        pipeline, views = self._pipeline(training), views_of(self, images, labels)
        check_mix(self, pipeline, views, views.drawn_as(self.same).values())
        parts = views.each(lambda n, each: self._check(each, views.labels(n), training, mixes and views.carries(n)))
        if self._cast and mixes:
            self._tell_of_a_cast(pipeline)
        keyed = take(views.first)
        return Scene.of(views, self.same, keyed, lambda n, each, own: self._call(each, *parts[n], own, training))

    def _call(
        self, images: Images, labels: Tensor | None, targets: Targets | None, reservation: Reservation, training: bool
    ) -> Call:
        pipeline = self.train_pipeline if training else self.eval_pipeline
        if type(images) is not Tensor and isinstance(images, Ragged):
            try:
                check_parts(images, pipeline, self.exact, training, reservation.keys)
            except ValueError:
                reservation.release()
                raise
        return Call(pipeline, self._output(), images, labels, training, reservation, targets)

    def _output(self) -> Output:
        targets: Any = self.mask_fill, self.erase_masks, self.flip_pairs
        return Output(self.exact, self.memory_format, self._dtype, self.backend, *targets)

    def _pipeline(self, training: bool) -> Pipeline:
        return self.train_pipeline if training else self.eval_pipeline

    def _check(
        self, images: Images, labels: Labels | None, training: bool, mixes: bool = True, drawn: Pipeline | None = None
    ) -> tuple[Tensor | None, Targets | None]:
        """Raise an error if the batch cannot be augmented; reads metadata only, before anything changes.

        drawn: The list of a draw that is rendered, which may have been replaced since. None: the module's own.

        Returns:
            Class labels, and the targets that follow the images, or None.
        """
        check_images(self, images)
        if not training and self._default_eval:
            self._default_eval.check(canvas_of(images))
        pipeline = drawn or (self.train_pipeline if training else self.eval_pipeline)
        return understood(self, pipeline, images, labels, mixes)

    def _rendered(self, images: Images | Pictures, draw: Draw | Mapping[str, Draw], labels: Labels | None) -> Any:
        """The images of a draw, or the pictures of a mapping of draws; with labels, (images, labels)."""
        if not isinstance(images, Tensor) and isinstance(images, Mapping):
            return render_scene(self, images, draw, labels, self._rendered)
        if not isinstance(draw, Draw):
            raise checks.argument_error(self, "draw", "what `sample` returned", checks.describe(draw))
        pipeline = self._pipeline(draw.training).of_draw(draw.pipeline)
        plain, targets = self._check(images, labels, draw.training, labels is not None, pipeline)
        check_drawn(self, draw, images)
        if isinstance(images, Ragged):
            check_parts(images, pipeline, self.exact, draw.training, draw.keys)
        if self._cast:
            self._tell_of_a_cast(pipeline)
        return render_draw(pipeline, self._output(), images, draw, plain, targets)

    def _eval_module(self, size: tuple[int, int], channels: int) -> EvalModule:
        canvas = Canvas(np.array([size]), checks.integer("Augment.eval_module", "channels", channels, 1))
        if self._default_eval:
            self._default_eval.check(canvas)
        return EvalModule.of(self.eval_pipeline, Keys(0, 0, np.zeros(1, np.uint64)), canvas, self._output())

    # ---- dtype -------------------------------------------------------------------------------------------------------

    def _follow_casts(self) -> None:
        """Begin with torch's default dtype. Called when the lists are known."""
        self._dtype = followed(self, torch.get_default_dtype(), lambda weight: weight, self._dtypes)
        self._cast = False  # whether it was cast to another dtype since it last ran

    @property
    def _dtypes(self) -> list[torch.dtype | str]:
        return [self.train_pipeline.dtype, self.eval_pipeline.dtype]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Called by nn.Module's `.half()`, `.to(...)` and similar methods: the dtype of ToDtype("auto") follows.

        The dtype is not stored in a buffer: code that lists or sends buffers would see it, such as DDP in each step.
        """
        dtype = followed(self, self._dtype, fn, self._dtypes)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._dtype, self._cast = dtype, self._cast or dtype != self._dtype
        return self

    def _tell_of_a_cast(self, pipeline: Pipeline) -> None:
        """Warn, once after a cast, if the list returns another dtype than the module was cast to."""
        self._cast, dtype = False, pipeline.dtype
        if isinstance(dtype, torch.dtype) and dtype not in (torch.uint8, self._dtype):
            warnings.warn(kept(self, dtype, self._dtype), stacklevel=2)

    # ---- pickles -----------------------------------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"memory_format": str(self.memory_format)}  # protocols below 4 cannot pickle it

    def __setstate__(self, state: dict[str, Any]) -> None:
        memory_format = getattr(torch, str(state["memory_format"]).removeprefix("torch."))
        super().__setstate__(state | {"memory_format": memory_format})  # type: ignore[no-untyped-call]


def modules_of(steps: Iterable[Transform]) -> list[nn.Module]:
    """The modules of the user that steps call."""
    modules = (step.module for step in steps if isinstance(step, (Opaque, Lambda)))
    return [module for module in modules if isinstance(module, nn.Module)]
