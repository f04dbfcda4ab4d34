"""The batches as a timeline for ui.perfetto.dev and chrome://tracing: one track for each worker, and one for the steps.

The format is Chrome's trace event format. Arrows connect a batch's fetch and its step.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from gpuaug.profiler.report import Report

__all__ = ["events", "save"]

MAIN, PIN, WORKERS = 1, 2, 100  # thread ids
PROCESS = 1


def events(report: Report) -> list[dict[str, Any]]:
    """All trace events; times are microseconds since the start of the first batch."""
    batches = report.trace.batches
    origin = min(min(b.fetch[0], b.asked) for b in batches)
    found: list[dict[str, Any]] = [
        _name("process_name", 0, "gpuaug profile"),
        _name("thread_name", MAIN, "main: waits and steps"),
    ]
    workers = sorted({b.worker for b in batches if b.worker >= 0})
    found += [_name("thread_name", WORKERS + w, f"worker {w}") for w in workers]
    if any(b.pinned for b in batches):
        found.append(_name("thread_name", PIN, "pinning thread"))

    def add(name: str, thread: int, span: tuple[float, float] | None, **more: Any) -> None:
        if span is not None and span[1] >= span[0]:
            start, length = (span[0] - origin) * 1e6, (span[1] - span[0]) * 1e6
            found.append(
                {"name": name, "ph": "X", "ts": start, "dur": length, "pid": PROCESS, "tid": thread, "args": more}
            )

    for number, b in enumerate(batches):
        thread = WORKERS + b.worker if b.worker >= 0 else MAIN
        stages = {name: round(wall * 1e3, 3) for name, (wall, _, _) in (b.stages or {}).items()}
        add(
            f"fetch {number}",
            thread,
            b.fetch,
            epoch=b.epoch,
            cpu_ms=b.cpu * 1e3,
            queue_ms=b.queue * 1e3,
            stages_ms=stages,
        )
        add("send", thread, b.sent, batch=number, bytes=b.tensor_bytes + b.other_bytes)
        add("wait", MAIN, (b.asked, b.given), batch=number)
        add("receive", PIN if b.pinned else MAIN, b.received, batch=number)
        add("pin", PIN, b.pinned, batch=number)
        add(f"step {number}", MAIN, (b.given, b.done), epoch=b.epoch, samples=b.size)
        arrow = {"name": "batch", "cat": "batch", "id": number, "pid": PROCESS}
        found.append({**arrow, "ph": "s", "ts": (b.fetch[0] - origin) * 1e6, "tid": thread})
        found.append({**arrow, "ph": "f", "bp": "e", "ts": (b.given - origin) * 1e6, "tid": MAIN})
    return found


def _name(kind: str, thread: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "pid": PROCESS, "tid": thread, "args": {"name": name}}


def save(report: Report, path: str | Path) -> None:
    """Write the timeline as JSON, compressed if the file name ends with .gz."""
    data = json.dumps({"traceEvents": events(report), "displayTimeUnit": "ms"}).encode()
    target = Path(path)
    target.write_bytes(gzip.compress(data, mtime=0) if target.suffix == ".gz" else data)
