"""Numbers, phrases and colours that the terminal, the HTML page and the PNG share."""

from __future__ import annotations

from typing import Any

from gpuaug.profiler.judge.advice import CORRECTNESS, Advice
from gpuaug.profiler.judge.verdict import FINE, HIGH, WORDS, Stage
from gpuaug.profiler.model.functions import Function
from gpuaug.profiler.report import Report

__all__ = [
    "colour",
    "confidence",
    "doubts",
    "environment",
    "following_of",
    "gain_or_reason",
    "inside",
    "level",
    "ms",
    "percent",
    "place",
    "receipt",
    "sample",
    "short",
    "where",
    "why",
]

LARGE_OVERHEAD = 0.10  # of the time per batch: if measuring costs more, the measured job is another one
LARGE_RESIDUAL = 0.15  # of the measured time per batch: if the replay differs by more, its gains are unreliable
CAUSES = {
    "tail": "a few batches take far longer than the others, and batches are delivered in order",
    "worker": "one worker is slower than the others",
    "threads": "each worker computes on several threads, and all workers together have more threads than cores",
    "cores": "its processes wait for cores",
}

# By group. Readers with colour vision deficiency can tell them apart (Okabe and Ito); the parts have labels too.
COLOURS = {
    "storage": "#999999",
    "decode": "#56B4E9",
    "dataset": "#0072B2",
    "augmentation": "#E69F00",
    "collate": "#F0E442",
    "transport": "#CC79A7",
    "pinning": "#D55E00",
    "model": "#009E73",
}
OTHER = "#BBBBBB"
FUNCTIONS = 4  # functions that are shown below a stage in the terminal, at most
WORTH = 0.05  # of the workers' time: a stage with less, and a function with less of its stage, is not looked into


def colour(group: str) -> str:
    """The colour of a group of stages."""
    return COLOURS.get(group, OTHER)


def ms(seconds: float) -> str:
    """Seconds in milliseconds: `1.23` below 100 ms, else `1,234`."""
    return f"{seconds * 1e3:,.2f}" if seconds < 0.1 else f"{seconds * 1e3:,.0f}"


def percent(fraction: float) -> str:
    """A fraction in percent: `1.2%` below 10 %, else `12%`."""
    return f"{fraction:.0%}" if abs(fraction) >= 0.1 else f"{fraction:.1%}"


def level(exposed: float) -> str:
    """low, moderate or high: the fraction of a step that waits for data. TensorFlow has the same limits."""
    return "low" if exposed < FINE else "high" if exposed > HIGH else "moderate"


def why(report: Report) -> list[str]:
    """The reasons for the verdict, one sentence each."""
    found = [
        f"{percent(report.exposed)} of a step of {ms(report.pace)} ms waits for data ({level(report.exposed)}); "
        f"{report.images_per_second:,.0f} samples/s."
    ]
    if report.alone is not None:
        found.append(
            f"The step alone takes {ms(report.alone)} ms: at most {report.samples / report.alone:,.0f} samples/s."
        )
    else:
        found.append(f"Without any data work: {report.verdict.ceiling}.")
    if report.verdict.cause:
        found.append(f"Cause: {CAUSES[report.verdict.cause]}.")
    second = report.verdict.second
    if report.verdict.kind == "data" and second:
        found.append(f"The next limit: {WORDS.get(second, second)}.")
    paces = {one.name: one.pace for one in report.passes}
    if "loader alone, cold files" in paces:
        cold, cached = paces["loader alone, cold files"], paces["loader alone, cached files"]
        found.append(
            f"The loader takes {ms(cold)} ms a batch with files outside of the page cache, {ms(cached)} ms with files "
            "in it."
        )
    if report.edge > 0.02 * report.pace * (report.trace.loader.length or 1):
        found.append(f"The start of each epoch takes {report.edge:.2f} s.")
    return found


def confidence(report: Report) -> str:
    """How reliable the numbers are."""
    doubt = doubts(report)
    others = [fact for doubtful, fact in _facts(report) if not doubtful]
    text = "; ".join([*others, f"{len(report.trace.batches)} batches"])
    text = f"{text[0].upper()}{text[1:]}."
    return f"UNRELIABLE: {doubt}. {text}" if doubt else text


def doubts(report: Report) -> str:
    """Why the numbers may be unreliable; empty if they are not."""
    return " and ".join(fact for doubtful, fact in _facts(report) if doubtful)


def _facts(report: Report) -> list[tuple[bool, str]]:
    """(whether it makes the numbers unreliable, fact)."""
    residual, overhead = abs(report.residual), max(0.0, report.overhead or 0.0)
    measured = [] if report.overhead is None else [(overhead > LARGE_OVERHEAD, f"measuring costs {percent(overhead)}")]
    return [
        (not report.reliable, f"the speed of the cores changed by {percent(report.drift)} during the measurement"),
        (residual > LARGE_RESIDUAL, f"the replay differs from the measured time by {percent(residual)}"),
        *measured,
    ]


def inside(report: Report, stage: Stage) -> list[Function]:
    """The functions to show below a stage: of the user's own code, where it takes some of the workers' time."""
    total = sum(one.seconds for one in report.stages if one.place == "worker")
    if stage.group not in ("dataset", "collate", "storage") or stage.seconds < WORTH * total:
        return []
    return [one for one in report.functions if one.row == stage.name and one.share >= WORTH][:FUNCTIONS]


def short(path: str) -> str:
    """The last two parts of a path."""
    return "/".join(path.replace(chr(92), "/").split("/")[-2:])


def place(function: Function) -> str:
    """A function with the line of the user's code that takes the time, such as `Image.copy, data.py:41`."""
    where = function.caller or f"{function.file}:{function.line}"
    return f"{function.name}, {short(where).rpartition('/')[2]}"


def sample(report: Report, index: int | str | None) -> str:
    """What a sample is called: its index, with the last part of its file's path where that is known."""
    if index is None:
        return "(iterable data set)"
    file = report.files.get(str(index))
    return str(index) if file is None else f"{index} {file.replace(chr(92), '/').rpartition('/')[2]}"


def following_of(report: Report) -> Advice | None:
    """The recommendation to try first: the largest gain of those that are code; else the largest gain."""
    gains = [one for one in report.advice if one.gain is not None]
    return next((one for one in gains if one.is_code), gains[0] if gains else None)


def gain_or_reason(advice: Advice) -> str:
    """The predicted gain of a recommendation, or why there is none."""
    if advice.gain is not None:
        return str(advice.gain)
    return "correctness" if advice.id in CORRECTNESS else "observed, no gain predicted"


def receipt(report: Report) -> str:
    """The receipt in one line: predicted gain, measured gain, error."""
    found = report.receipt
    assert found is not None
    text = f"{found.id}: predicted {found.predicted}, measured {found.measured}, error {found.error:+.1%}."
    return text if found.reliable else f"UNRELIABLE (core speed changed by {percent(found.drift)}): {text}"


def where(report: Report) -> str:
    """The loader and the machine in one line."""
    loader, machine = report.trace.loader, report.machine
    more = f", prefetch_factor={loader.prefetch}, {loader.start}" if loader.workers else ""
    return (
        f"{loader.kind}({loader.dataset}, batch_size={loader.batch_size}, num_workers={loader.workers}{more}); "
        f"{machine['processor']}, {machine['cores']:g} cores, "
        f"{report.cores:.2f} of them free; {machine['device'] or 'no GPU'}; torch {machine['torch']}."
    )


def environment() -> Any:
    """The templates of the pages, with filters for numbers."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    found = Environment(
        loader=PackageLoader("gpuaug.profiler.show", ""),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(ms=ms, percent=percent)
    return found
