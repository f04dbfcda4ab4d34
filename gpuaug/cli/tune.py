"""`gpuaug tune`."""

# no `from __future__ import annotations`: typer reads the annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gpuaug.cli.errors import FAILED, one_line_errors

if TYPE_CHECKING:
    from gpuaug.tuning import Result

__all__ = ["command"]

FORM = ("MODULE:FUNCTION or FILE.py:FUNCTION", "train.py:train")  # what is expected, an example
RECIPE = ("FILE.py:NAME, or a configuration (.json, .yaml or .yml)", "train.py:steps")
METRIC = ("the name of a metric, or FILE.py:FUNCTION", "train.py:cost")


def command(
    target: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION",
            help="Function of (list or settings, seed, reporter) that yields metrics for each epoch.",
            show_default=False,
        ),
    ],
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:NAME|FILE.yaml",
            help="The baseline: a list, or a function of the settings; or a configuration. Without it the function "
            "gets the settings.",
        ),
    ] = None,
    space: Annotated[
        Path | None, typer.Option(help="JSON or YAML file: stages, each with lists of values of its settings.")
    ] = None,
    num_classes: Annotated[int | None, typer.Option(help="Number of classes, for MixUp and CutMix.")] = None,
    seeds: Annotated[int, typer.Option(help="Seeds of each setting.")] = 3,
    metric: Annotated[
        str, typer.Option(help="accuracy, macro_f1, pr_auc, any other that is reported, or FILE.py:FUNCTION.")
    ] = "accuracy",
    minimize: Annotated[bool, typer.Option("--minimize", help="Lower values of the metric are better.")] = False,
    prune: Annotated[
        int | None, typer.Option(help="End runs that are below the median after so many epochs.", show_default="never")
    ] = None,
    storage: Annotated[
        str, typer.Option(help="SQLite file or URL of a database; the same command goes on from it.")
    ] = "gpuaug-tune.db",
    name: Annotated[str, typer.Option(help="Name of the search in the storage.")] = "tune",
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run once more what failed before.")] = False,
    json: Annotated[Path | None, typer.Option(help="Write all runs as JSON.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw settings and curves, as .png or .svg.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the result only.")] = False,
) -> None:
    """Train with several augmentations and seeds, and say which is better, if any is.

    Start the same command several times, also on other machines, to share the work. The status is 3 if a run failed.
    """
    with one_line_errors():
        for path in (json, plot):
            if path is not None and (path.is_dir() or not path.resolve().parent.is_dir()):
                raise ValueError(f"tune: a file must lie in a folder that exists, got {path}.")
        if plot is not None and plot.suffix not in (".png", ".svg", ".pdf"):
            raise ValueError(f"tune: `--plot` must name a .png, .svg or .pdf file, got {plot}.")
        result = _searched(
            target,
            recipe,
            space,
            metric,
            num_classes=num_classes,
            seeds=seeds,
            direction="minimize" if minimize else "maximize",
            prune=prune,
            storage=storage,
            name=name,
            retry_failed=retry_failed,
            quiet=quiet,
        )
        typer.echo(str(result))
        if json is not None:
            result.save(json)
        if plot is not None:
            result.plot(plot)
        for path in filter(None, (json, plot)):
            typer.echo(f"Wrote {path}.", err=True)
        if any(run.state == "failed" for run in result.runs):
            raise typer.Exit(FAILED)


def _searched(target: str, recipe: str | None, space: Path | None, metric: str, **options: Any) -> "Result":
    """The result of a search whose arguments are names and files."""
    import gpuaug as ga
    from gpuaug.cli.target import configured, is_configuration, named
    from gpuaug.recipes.config import read

    train = named(target, "target", "tune", FORM, modules=True)
    if recipe is not None:
        given = named(recipe, "--recipe", "tune", RECIPE) if not is_configuration(recipe) else None
        options["recipe"] = given if given is not None else configured(recipe, "--recipe", "tune").train_pipeline.steps
    if space is not None:
        if not space.is_file():
            raise ValueError(f"tune: `--space` must name a file, and there is no file {space}.")
        try:
            options["space"] = read(space)
        except ValueError as error:
            raise ValueError(str(error).replace("from_file: `path`", "tune: `--space`", 1)) from None
        except ImportError as error:
            raise ValueError(str(error)) from None
    if ":" in metric:
        options["metrics"] = {metric.rpartition(":")[2]: named(metric, "--metric", "tune", METRIC)}
        metric = metric.rpartition(":")[2]
    return ga.tune(train, metric=metric, **options)
