"""Runs in a process of its own and prints what the audit says, as JSON: it makes torch believe in a GPU.

    python tests/support/audit_cases.py

A line that the audit should report carries the name of its case in a comment.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from benchmarks.evidence import launches as audit_triton
from benchmarks.evidence.pseudocuda import PseudoCuda, install, on_cuda, to_device, to_host
from benchmarks.evidence.recording import Audit


def vector() -> Tensor:
    return to_device(torch.arange(6.0))


def item() -> Any:
    return vector().sum().item()  # item


def truth() -> Any:
    if vector()[1]:  # truth
        return 1
    return 0


def cpu() -> Any:
    return vector().cpu()  # cpu


def tolist() -> Any:
    return vector().tolist()  # tolist


def download() -> Any:
    return vector().to("cpu", non_blocking=True)  # download


def pageable() -> Any:
    return torch.ones(3).to("cuda")  # pageable


def pageable_asynchronous() -> Any:
    return torch.ones(3).to("cuda", non_blocking=True)  # pageable_asynchronous


def pinned_blocking() -> Any:
    return torch.ones(3).pin_memory().to("cuda")  # pinned_blocking


def pinned_slice() -> Any:
    columns = torch.ones(3, 4).pin_memory()[:, 1:]
    return columns.to("cuda", non_blocking=True)  # pinned_slice


def factory() -> Any:
    return torch.tensor([1.0, 2.0], device="cuda")  # factory


def mask() -> Any:
    values = vector()
    return values[values > 2]  # mask


def nonzero() -> Any:
    return (vector() > 2).nonzero()  # nonzero


def host_index() -> Any:
    return vector()[torch.tensor([0, 1])]  # host_index


def repeat() -> Any:
    return vector().repeat_interleave(torch.ones(6, dtype=torch.int64, device="cuda"))  # repeat


def inverse() -> Any:
    return torch.linalg.inv(torch.eye(3, device="cuda"))  # inverse


def stream() -> Any:
    torch.cuda.current_stream().synchronize()  # stream


def event() -> Any:
    torch.cuda.Event().synchronize()  # event


def device() -> Any:
    torch.cuda.synchronize()  # device


def overwritten() -> Any:
    staging = torch.empty(3, pin_memory=True).fill_(1)
    there = staging.to("cuda", non_blocking=True)  # overwritten
    staging.numpy()[0] = 2
    return there


SEEDED = [item, truth, cpu, tolist, download, pageable, pageable_asynchronous, pinned_blocking, pinned_slice, factory]
SEEDED += [mask, nonzero, host_index, repeat, inverse, stream, event, device, overwritten]


def clean() -> Any:
    """Nothing here waits, although much of it looks as if it might."""
    values = vector()
    values[values > 2] = 0  # a masked fill
    values = values.repeat_interleave(torch.full((6,), 2, device="cuda"), output_size=12)
    values = torch.where(values > 1, values, 0.5) * torch.tensor(2.0)
    block = torch.empty(4, dtype=torch.int32, pin_memory=True)
    block.numpy()[:] = (3, 1, 0, 2)
    order = block[1:].to("cuda", non_blocking=True).long()
    out = torch.empty((2, 3, 4, 4), device="cuda", memory_format=torch.channels_last)
    out[:, 1] = values.index_select(0, order).sum()
    there = block.to("cuda", non_blocking=True)
    torch.cuda.Event().query()
    block.numpy()[0] = 7  # the query has said that the copy is over
    with torch.autocast("cuda", enabled=False):
        bits = out.view(torch.int32).as_strided((4,), (2,)).contiguous() + there
    assert on_cuda(bits)
    assert out.is_contiguous(memory_format=torch.channels_last)
    return bits


def known() -> Any:
    """Launches whose bytes are easy: the test has the numbers."""
    images = to_device(torch.zeros(4, 3, 8, 8, dtype=torch.uint8))  # 768 bytes
    floats = images.float()  # 768 -> 3072
    floats.mul_(2.0)  # 3072 -> 3072
    total = floats + torch.zeros(8, device="cuda")  # 0 -> 32; 3072 + 32 -> 3072
    chosen = total.index_select(0, torch.arange(2, device="cuda"))  # 0 -> 16; 1536 + 16 -> 1536
    total.index_copy_(0, torch.arange(2, device="cuda"), chosen)  # 0 -> 16; 1536 + 16 -> 1536
    return total.view(4, -1).expand(2, 4, 192).transpose(0, 1)[1:].detach()


def mixed() -> list[str]:
    """What is said where devices meet."""
    ours, host = vector(), torch.ones(6)
    attempts: list[Callable[[], Any]] = [
        lambda: ours + host,
        lambda: host + ours,
        lambda: host.add_(ours),
        lambda: torch.cat([ours, host]),
        lambda: ours.index_select(0, torch.tensor([1])),
        lambda: host[vector().long()],
        lambda: ours.numpy(),
    ]
    said = []
    for attempt in attempts:
        try:
            attempt()
            said.append("nothing")
        except (RuntimeError, TypeError) as error:
            said.append(str(error))
    return said


def audited(case: Callable[[], Any]) -> dict[str, Any]:
    with Audit() as audit:
        case()
    launches = [(launch.name, launch.read, launch.written) for launch in audit.launches]
    copies = [(copy.to_device, copy.size, copy.pinned, copy.waits) for copy in audit.copies]
    return {**audit.report(1), "sequence": launches, "copies": copies}


def gpuaug_lists() -> dict[str, dict[str, Any]]:
    """Every op of gpuaug on the torch backend: what its first and later batches ask for, and whether the pixels are
    those of the CPU."""
    import gpuaug as ga
    from tests.support import helpers

    lists = {op.__name__: helpers.pipeline(op) for op in ga.OPS}
    lists |= {"recipe": helpers.recipe(), "recipe with a mix": helpers.recipe(mix=True)}
    lists["ragged"] = helpers.recipe()
    labels, index = helpers.labels(4), torch.arange(4)
    found = {}
    for name, steps in lists.items():
        images: Any = helpers.noise()
        placed: Any = to_device(images)
        if name == "ragged":
            images = ga.Ragged.from_images(helpers.photographs(4))
            placed = ga.Ragged(to_device(images.data), images.sizes, images.channels)
        augment = ga.Augment(steps, seed=3, backend="torch")
        mixes = [labels] if augment.train_pipeline.mix is not None else []
        expected = augment(images, *mixes, index=index)
        there = [placed, *map(to_device, mixes)]
        with Audit() as first:
            augment(*there, index=index)
        augment.set_epoch(0)
        with Audit() as later:
            result = augment(*there, index=index)
        pairs = zip(result, expected, strict=True) if mixes else [(result, expected)]
        found[name] = {
            "same": all(on_cuda(a) and torch.equal(to_host(a), b) for a, b in pairs),
            "first": [finding.place.file for finding in first.findings],
            "later": [str(finding) for finding in later.findings],
            "launches": len(later.launches),
        }
    return found


def triton_cases() -> dict[str, Any] | None:
    """A kernel of our own by way of the backend's launch function; None without Triton."""
    if not audit_triton.available():
        return None
    from gpuaug.kernels.triton.runtime import launch as user
    from tests.support import audit_kernels

    def run(count_bytes: bool) -> tuple[Audit, Tensor, Tensor]:
        source, total = to_device(torch.arange(200, dtype=torch.int32)), torch.zeros(1, dtype=torch.int32)
        with Audit(count_bytes) as audit:
            out, total = torch.empty(100, device="cuda"), total.pin_memory().to("cuda", non_blocking=True)
            arguments = source, out, total, 2, 100
            user.launch(audit_kernels.strided, (4,), *arguments, BLOCK=32, num_warps=2)
        return audit, to_host(out), to_host(total)

    audit, out, total = run(count_bytes=True)
    quick, *_ = run(count_bytes=False)
    with Audit(count_bytes=True) as foreign:  # as a library does that knows nothing of ours
        foreign_out = torch.empty(6, device="cuda")
        arguments = vector(), foreign_out, torch.zeros(1, device="cuda"), 1, 6
        audit_kernels.strided[lambda meta: (meta["count"] // 3,)](*arguments, BLOCK=4)
    errors = []
    for arguments in ((torch.zeros(200), vector(), vector(), 1, 6), (vector(), vector(), vector(), 100, 6)):
        with Audit(count_bytes=True), contextlib.suppress(AssertionError):
            try:
                user.launch(audit_kernels.strided, lambda meta: (1,), *arguments, BLOCK=8)
                errors.append("nothing")
            except Exception as error:
                errors.append(str(error))
    return {
        "report": audit.report(1),
        "launch": asdict(audit.launches[-1]),
        "right": torch.equal(out, torch.arange(0, 200, 2).float()) and int(total) == int(out.sum()),
        "quick": {**quick.report(1), "buffers": quick.launches[-1].buffers},
        "foreign": {**foreign.report(1), "grid": foreign.launches[-1].grid, "out": to_host(foreign_out).tolist()},
        "errors": errors,
    }


def main() -> None:
    install()
    torch.set_num_threads(1)
    with PseudoCuda():
        result = {
            "seeded": {case.__name__: audited(case) for case in SEEDED},
            "clean": audited(clean),
            "known": audited(known),
            "mixed": mixed(),
            "gpuaug": gpuaug_lists(),
            "triton": triton_cases(),
        }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
