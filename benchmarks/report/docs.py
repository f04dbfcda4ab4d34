"""The tables of the documentation, from the stored runs: python -m benchmarks.report.docs writes them.

    python -m benchmarks --full --data FOLDER --json benchmarks/results/full.json --plot benchmarks/results
    python -m benchmarks ops --full --data FOLDER --json benchmarks/results/ops.json  # one regime again, of any name
    python -m benchmarks.evidence.accuracy --data CIFAR --json benchmarks/results/accuracy.json
    python -m benchmarks.evidence.crop_only FOLDER --json benchmarks/results/crop_only.json
    python -m benchmarks.evidence.bottleneck_validation --json benchmarks/results/planted.json
    python -m benchmarks.evidence.real_loaders --images FOLDER --rounds 3 --json benchmarks/results/real.json
    python -m benchmarks.evidence.profilers_compared --images FOLDER --json benchmarks/results/profilers.json
    python examples/book_augmentation.py --data CIFAR --out book --seeds 3  # book/book.json; the file has all arguments

A table stands between `<!-- results: NAME -->` and `<!-- end -->`; a test compares each with the stored runs.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gpuaug.profiler.machine import CHANGED

from ..locations import PACKAGE, RESULTS, ROOT
from ..machine import command, is_part, lines
from ..measure import median, ratio
from ..suite import REGIMES
from .audit import rounded, span
from .profiling import profilers, real
from .tables import MARKS, Grid, absences, drift, grids, losses, markdown, marks, rate

__all__ = ["BLOCKS", "PAGES", "crop_only", "fill", "main", "stored"]

PAGES = (
    "README.md", "docs/index.md", "docs/benchmarks.md", "docs/book.md", "docs/gpu.md", "docs/profiler.md",
    "docs/profiler-compared.md",
)  # fmt: skip
BLOCK = re.compile(r"(<!-- results: (\w+) -->\n).*?(<!-- end -->)", re.S)
Run = dict[str, Any]


def fill(text: str, runs: dict[str, Run]) -> str:
    """The text of a page with every table made anew."""

    def block(match: re.Match[str]) -> str:
        name = match[2]
        if name not in BLOCKS:
            raise ValueError(f"docs: a table must be one of {', '.join(BLOCKS)}, got {name}.")
        return f"{match[1]}{BLOCKS[name](runs.get(name, runs['full'])).rstrip()}\n{match[3]}"

    return BLOCK.sub(block, text)


def _machine(run: Run) -> str:
    machine, versions = lines(run)
    about = f"{machine}; {versions}. `{command(run)}`, {run['created'][:10]}"
    moved = drift(run)
    return f"{about}, {run['wall_s'] / 60:.0f} minutes.{' ' + moved if moved else ''}"


def _regime(name: str) -> Callable[[Run], str]:
    """The tables of a regime; what is to be said of several of them is said once, and of a run of its own on what."""

    def block(run: Run) -> str:
        found = [grid for regime, grid in grids(run) if regime == name]
        tables = [f"**{grid.title}**\n\n{markdown(grid)}" for grid in found]
        notes = dict.fromkeys(note for grid in found for note in grid.notes)
        about = [f"- {_machine(run)}"] if is_part(run) else []
        return "\n\n".join([*tables, "\n".join([*(f"- {note}" for note in notes), *about])])

    return block


def _short(run: Run) -> str:
    """The recipes on one core, against the libraries that most people use."""
    grid = next(grid for regime, grid in grids(run) if regime == "recipes")
    shown = [grid.columns.index(name) for name in ("recipe", "gpuaug", "tv tens.", "Alb.X", "Kornia", "DALI")]
    columns = ["recipe", "gpuaug, ms", "torchvision v2", "AlbumentationsX", "Kornia", "DALI"]
    return markdown(Grid("", columns, [[row[number] for number in shown] for row in grid.rows]))


def _front(run: Run) -> str:
    """How many times as long torchvision takes, in one sentence."""
    grid = next(grid for regime, grid in grids(run) if regime == "recipes")
    column = grid.columns.index("tv tens.")
    times = sorted(float(found[0]) for row in grid.rows if (found := re.match(r"[\d.]+", row[column])))
    processor = lines(run)[0].partition(",")[0]
    took = f"take {times[0]:.1f} to {times[-1]:.0f} times as long as gpuaug for {len(times)} recipes"
    losing = "[Every row in which gpuaug is slower](benchmarks.md#where-gpuaug-is-slower) is listed."
    return f"On one CPU core ({processor}), torchvision's tensors {took}. {losing}"


def crop_only(run: Run) -> str:
    """Loaders on one core and on two: images a second, CPU time, and bytes, each divided by the first row's."""
    rows = run["regimes"]["loaders"]["rows"]
    body = []
    for row in sorted(rows, key=lambda one: int(one["threads"])):
        own = next(one for one in rows if one["threads"] == row["threads"])
        times, cpu = (ratio(own[name], row[name]) for name in ("seconds", "cpu"))
        shown = [f"{rate(row):,.0f}{marks(row)}", f"{times:.2f}", f"{median(row['cpu']) / row['images'] * 1e3:.2f}"]
        sent = f"{row['sent'] / own['sent']:.2f}" if "sent" in row else ""
        body.append([f"{row['threads']}", row["who"], *shown, f"{cpu:.2f}", sent])
    columns = ["cores", "way", "images/s", "x", "CPU ms an image", "x", "bytes sent"]
    turns = f"Medians of {len(rows[0]['seconds'])} rounds of {rows[0]['images']} images"
    about = f"x: how many times as fast, and how many times less CPU time, as the first row. {turns}. {_machine(run)}"
    missing = "".join(f" {line}." for line in absences(run))
    busy = f" The load average was {run['load']:.1f} when it began." if run["load"] else ""
    return f"{markdown(Grid('', columns, body))}\n\n{about}{busy}{missing}"


def _losses(run: Run) -> str:
    found = losses(run)
    if not found:
        return "No other library is faster in any row of these tables."
    rows = "\n".join(f"- {line}" for line in found)
    return f"Rows in which another library is faster than gpuaug, or it is undecided (?):\n\n{rows}"


def _absent(run: Run) -> str:
    return "\n".join(f"- {line}" for line in absences(run)) or "Every library took part in everything."


def _marks(run: Run) -> str:
    found = MARKS.replace("\n  ", " ").splitlines()
    return "\n".join(f"- `{line[0]}` {line[2:]}" for line in found)


def _audit(run: Run) -> str:
    rows = run["regimes"]["audit"]["rows"]
    body = []
    for case in dict.fromkeys(row["case"] for row in rows):
        body.append([case])
        for row in (one for one in rows if one["case"] == case):
            draws = row["draws"]
            mean = sum(draw["mb_per_image"] for draw in draws) / len(draws)
            names = ("launches", "waits", "uploads_that_may_wait", "uploads")
            launches, *others = (span(draw[name] for draw in draws) for name in names)
            body.append([row["who"], launches, rounded(mean), *others])
    return markdown(Grid("", ["list, library", "launches", "MB/image", "waits", "may wait", "copies up"], body))


def _bounds(run: Run) -> str:
    audit = run["regimes"]["audit"]
    gpus, models = list(audit["gpus"]), list(audit["rates"])
    rows = [row for row in audit["rows"] if row["who"] == "gpuaug, triton backend"]
    times = [[row["case"], *(_time(row["calculated"][gpu]) for gpu in gpus)] for row in rows]
    shares = [
        [
            f"{row['who']}: {row['case']}",
            *(", ".join(rounded(row["calculated"][gpu]["step_percent"][model]) for model in models) for gpu in gpus),
        ]
        for row in audit["rows"]
    ]
    named = [f"{gpu}: {', '.join(models)}" for gpu in gpus]
    first = Grid("", ["gpuaug, triton backend", *(f"{gpu}: memory, instructions, us" for gpu in gpus)], times)
    second = Grid("", ["percent of a training step, calculated", *named], shares)
    return f"{markdown(first)}\n\n{markdown(second)}"


def _time(found: Run) -> str:
    return f"{rounded(found['memory_us'])}, {rounded(found['issue_us']) if found['issue_us'] else 'not counted'}"


def _accuracy(found: Run) -> str:
    from ..evidence.accuracy import verdict

    body = []
    for who, own in found["accuracy"].items():
        cells = [who, f"{own['mean']:.2f}", f"{own['low']:.2f} to {own['high']:.2f}"]
        gap = found["difference"].get(who)
        if gap is not None:
            cells += [f"{gap['mean']:+.2f}", f"{gap['low']:+.2f} to {gap['high']:+.2f}", verdict(gap, found["margin"])]
        body.append(cells + [""] * (6 - len(cells)))
    columns = ["augmentation", "accuracy, %", "95 % interval", "minus torchvision's", "95 % interval", "verdict"]
    settings = found["settings"]
    about = (
        f"{settings['seeds']} seeds, {settings['images']:,} training images, {settings['epochs']} epochs, all 10,000 "
        "test images; the runs of a seed share weights and batches."
    )
    return f"{markdown(Grid('', columns, body))}\n\n{about}"


def _book(found: Run) -> str:
    """Accuracies of each list: means over the seeds, and the lowest and highest difference to no augmentation."""
    runs = found["runs"]
    plain = {run["seed"]: run["test"] for run in runs if run["list"] == "none"}
    body = []
    for name in dict.fromkeys(run["list"] for run in runs):
        own = [run for run in runs if run["list"] == name]
        seen, unseen = (statistics.mean(run[part] for run in own) for part in ("train", "test"))
        gains = [run["test"] - plain[run["seed"]] for run in own]
        gain = f"{statistics.mean(gains):+.1f} ({min(gains):+.1f} to {max(gains):+.1f})" if name != "none" else ""
        body.append([name, f"{seen:.1f}", f"{unseen:.1f}", f"{seen - unseen:.0f}", gain])
    columns = ["list", "training images, %", "test images, %", "gap", "test, minus none (lowest to highest seed)"]
    settings, versions = found["settings"], found["versions"]
    about = (
        f"Accuracy after the last of {settings['epochs']} epochs, means of {len(plain)} seeds. {settings['images']:,} "
        f"training images and {settings['test_images']:,} test images of CIFAR-10, none of them augmented when the "
        "accuracy is taken. The lists of a seed begin with the same weights and see the same batches. "
        f"torch {versions['torch']}, on a CPU.\n\n<!-- run by tests/cli/test_examples.py -->\n"
        f"```sh\n{found['command']}\n```"
    )
    return f"{markdown(Grid('', columns, body))}\n\n{about}"


def _planted(found: Run) -> str:
    """Each case with the medians of its runs."""
    body = []
    for name in dict.fromkeys(one["name"] for one in found["results"]):
        runs = [one for one in found["results"] if one["name"] == name]
        said = dict.fromkeys("/".join(part for part in dict.fromkeys(one["said"]) if part) for one in runs)
        right = f"{sum(one['right'] for one in runs)} of {len(runs)}"
        cells = [name, ", ".join(said), right]
        known = [one for one in runs if one["error"] is not None]
        if known:
            middle = sorted(known, key=lambda one: one["error"])[len(known) // 2]
            worst = max(known, key=lambda one: abs(one["error"]))
            cells += [f"{middle['predicted']:.2f}", f"{middle['measured']:.2f}", f"{worst['error']:+.1%}"]
        body.append(cells + [""] * (6 - len(cells)))
    columns = ["case", "verdict", "right", "predicted gain", "measured gain", "largest error"]
    total, cost = found["summary"], found["overhead"]
    unsteady = sum(one["drift"] > CHANGED for one in found["results"])
    about = (
        f"{total['runs']} runs: {total['right']:.0%} of the verdicts right (goal: 95 %), predicted gains wrong by "
        f"{total['error_median']:.1%} in the median (5 %) and {total['error_p95']:.1%} at the 95th percentile (15 %), "
        f"{total['wrong_signs']:.0f} wrong signs (0), {total['false_alarms']:.0%} false alarms (5 %). In "
        f"{unsteady} of the runs the cores' speed changed by more than {CHANGED:.0%}; they count like the others. "
        f"Tracing makes batches of 10 ms {_longer(cost['workers bind'])} longer if the workers are the bottleneck, and "
        f"{_longer(cost['the step binds'])} longer if the step is (1 %). In brackets: the goals and the intervals."
    )
    machine, versions = lines(found)
    where = f"{machine}; {versions.split(', torchvision')[0]}; {found['created'][:10]}."
    return f"{about}\n\n{markdown(Grid('', columns, body))}\n\n{where}"


def _longer(cost: dict[str, float]) -> str:
    times, low, high = (f"{cost[name] - 1:.1%}" for name in ("times", "low", "high"))
    return f"{times} ({low} to {high})"


BLOCKS: dict[str, Callable[[Run], str]] = {
    "short": _short,
    "front": _front,
    "machine": _machine,
    "marks": _marks,
    **{name: _regime(name) for name in REGIMES if name != "audit"},
    "losses": _losses,
    "absent": _absent,
    "audit": _audit,
    "bounds": _bounds,
    "accuracy": _accuracy,
    "book": _book,
    "planted": _planted,
    "real": real,
    "profilers": profilers,
    "crop_only": crop_only,
}


def stored() -> dict[str, Run]:
    """The runs that are kept in the repository; a table without a run of its own name is of the full run.

    A regime that was run again by itself, after the full run, has a file of its own.

    Raises:
        RuntimeError: if they are not there, as in an installed package.
    """
    if ROOT is None or not RESULTS.exists():
        raise RuntimeError(
            f"{PACKAGE}: the stored runs are in the repository, not in an installed package. Use a clone."
        )
    again = [name for name in REGIMES if (RESULTS / f"{name}.json").exists()]
    names = ["full", "accuracy", "book", "planted", "crop_only", "profilers", *again]
    names += ["real"] if (RESULTS / "real.json").exists() else []
    runs: dict[str, Run] = {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in names}
    full = runs["full"]
    runs = {name: run for name, run in runs.items() if name not in again or run["created"] > full["created"]}
    newest = {name: runs.get(name, full)["regimes"][name] for name in full["regimes"]}
    every = {**full, "regimes": newest}
    recipes = runs.get("recipes", full)
    others = {"losses": every, "absent": every, "short": recipes, "front": recipes, "bounds": runs.get("audit", full)}
    return runs | others


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog=f"python -m {PACKAGE}.report.docs", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a table would change")
    options = parser.parse_args(arguments)
    try:
        runs = stored()
    except RuntimeError as error:
        parser.exit(1, f"{error}\n")
    changed = False
    for page in PAGES:
        file = (ROOT or Path()) / page
        before = file.read_text(encoding="utf-8")
        after = fill(before, runs)
        changed |= before != after
        if not options.check:
            file.write_text(after, encoding="utf-8")
    return int(options.check and changed)


if __name__ == "__main__":
    sys.exit(main())
