"""One part as a process in a group of its own, with a time limit that it cannot escape."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .results import STARTED, write

__all__ = ["close", "end_group", "run_part", "skip"]

KEPT = 60  # lines of output in a part's file
WIDEST = 400  # characters of such a line
PATIENCE = 4.0  # seconds between asking a part to stop and stopping it
LARGEST = 15 << 20  # bytes of a part's file


def run_part(
    name: str, command: Sequence[str], out: Path, seconds: float, environment: Mapping[str, str]
) -> dict[str, Any]:
    """Run it, show what it prints, end it and all its children after `seconds`, and complete its file."""
    file = out / f"{name}.json"
    file.unlink(missing_ok=True)
    start = time.monotonic()
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**environment, STARTED: repr(start)},
        start_new_session=True,
    )
    tail: deque[str] = deque(maxlen=KEPT)
    reader = threading.Thread(target=_show, args=(process, tail), daemon=True)
    reader.start()
    late = False
    try:
        process.wait(max(seconds, 0.0))
    except subprocess.TimeoutExpired:
        late = True
    finally:  # also when the whole is asked to stop; whoever the part left behind goes too
        end_group(process, PATIENCE if process.poll() is None else 0.0)
    reader.join(1.0)
    return close(file, name, process.poll(), late, time.monotonic() - start, list(tail))


def _show(process: subprocess.Popen[bytes], tail: deque[str]) -> None:
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            text = line.decode(errors="replace").rstrip()
            tail.append(text[:WIDEST])
            print(f"  {text}", flush=True)


def end_group(process: subprocess.Popen[bytes], patience: float) -> None:
    """Terminate, then kill, a process and its group. Who hangs in the driver is left to it."""
    if patience:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(PATIENCE)


def close(file: Path, name: str, code: int | None, late: bool, taken: float, tail: list[str]) -> dict[str, Any]:
    """Complete what the part wrote, if it came to that, by how it ended."""
    found = _read(file) or {"part": name, "failed": [], "notes": [], "rows": []}
    status, why = _ending(found, code, late, taken)
    if why:
        found["failed"].append({"what": name, "error": why})
    found |= {"status": status, "exit": code, "taken_s": round(taken, 1), "tail": tail}
    text = json.dumps(found, indent=1)
    if len(text) > LARGEST:
        kept = len(found["rows"]) * LARGEST // len(text) // 2
        found["notes"].append(f"{len(found['rows']) - kept} rows were left out: the file would be too large")
        found["rows"] = found["rows"][:kept]
        text = json.dumps(found, indent=1)
    write(file, text + "\n")
    return found


def _ending(found: dict[str, Any], code: int | None, late: bool, taken: float) -> tuple[str, str]:
    """Status, and what else has failed."""
    if late:
        return "timeout", f"stopped at its time limit, after {taken:.0f} s"
    if code is None:
        return "timeout", "cannot be ended: it hangs in the driver"
    if code < 0:
        return "crashed", f"its process ended with {signal.Signals(-code).name}"
    if code and not found["failed"]:
        return "crashed", f"its process ended with status {code}"
    if found["failed"]:
        return "failed", ""
    if found.get("status") == "skipped":
        return "skipped", ""
    return ("done", "") if found.get("status") == "done" else ("crashed", "its process ended before its results did")


def skip(out: Path, name: str, reason: str) -> dict[str, Any]:
    """The file of a part that is not run."""
    found = {"part": name, "status": "skipped", "reason": reason, "taken_s": 0.0, "failed": [], "notes": [], "rows": []}
    write(out / f"{name}.json", json.dumps(found, indent=1) + "\n")
    print(f"  skipped: {reason}", flush=True)
    return found


def _read(file: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and {"failed", "notes", "rows"} <= set(found) else None


def python(module: str) -> list[str]:
    """The command of a module."""
    return [sys.executable, "-u", "-m", module]
