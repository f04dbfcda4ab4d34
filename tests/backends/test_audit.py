"""The audit harness can fail: it reports what waits, where it stands, and counts what it should."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.processes import ENVIRONMENT, python

ROOT = Path(__file__).parents[2]
CASES = ROOT / "tests" / "support" / "audit_cases.py"

SEEDED = {  # case: (what is said of it, whether the host surely waits)
    "item": (".item()", True),
    "truth": (".item()", True),
    "cpu": ("copy from the device", True),
    "tolist": ("copy from the device", True),
    "download": ("copy from the device, not waited for", False),
    "pageable": ("blocking copy of pageable memory to the device", True),
    "pageable_asynchronous": ("asynchronous copy of pageable memory to the device", False),
    "pinned_blocking": ("blocking copy of pinned memory to the device", True),
    "pinned_slice": ("asynchronous copy of pageable memory to the device", False),
    "factory": ("blocking copy of pageable memory to the device", True),
    "mask": ("boolean mask", True),
    "nonzero": ("nonzero", True),
    "host_index": ("copy of an index to the device", True),
    "repeat": ("repeat_interleave without output_size", True),
    "inverse": ("linalg error check", True),
    "stream": ("Stream.synchronize", True),
    "event": ("Event.synchronize", True),
    "device": ("torch.cuda.synchronize", True),
    "overwritten": ("pinned memory written while its copy may be under way", False),
}


@pytest.fixture(scope="module")
def cases() -> dict[str, Any]:
    """What the audit says of each case, from a process that may believe in a GPU."""
    if torch.cuda.is_available():
        pytest.skip("the harness stands in for a GPU that is missing")
    return json.loads(python(str(CASES)))


@pytest.mark.parametrize("case", SEEDED)
def test_a_seeded_violation_is_reported_with_its_line(cases: dict[str, Any], case: str) -> None:
    lines = CASES.read_text().splitlines()
    (line,) = (number for number, text in enumerate(lines, 1) if text.endswith(f"  # {case}"))
    kind, waits = SEEDED[case]
    (finding,) = cases["seeded"][case]["findings"]
    assert (finding["kind"], finding["waits"]) == (kind, waits)
    assert (finding["file"], finding["line"]) == ("tests/support/audit_cases.py", line)
    assert finding["text"] == lines[line - 1].strip()
    assert cases["seeded"][case]["waits"] == waits


def test_every_seeded_violation_is_expected(cases: dict[str, Any]) -> None:
    assert set(cases["seeded"]) == set(SEEDED)


def test_a_clean_chain_has_no_findings(cases: dict[str, Any]) -> None:
    clean = cases["clean"]
    assert clean["findings"] == []
    assert clean["copies"] == [[True, 12, True, False], [True, 16, True, False]]  # both pinned, neither waits
    assert (clean["uploads"], clean["downloads"], clean["pinned_blocks"]) == (2, 0, 1)


def test_launches_and_bytes_of_a_known_chain(cases: dict[str, Any]) -> None:
    known = cases["known"]
    assert known["sequence"] == [
        ["aten._to_copy.default", 768, 3072],
        ["aten.mul_.Tensor", 3072, 3072],
        ["aten.zeros.default", 0, 32],
        ["aten.add.Tensor", 3104, 3072],
        ["aten.arange.default", 0, 16],
        ["aten.index_select.default", 1552, 1536],
        ["aten.arange.default", 0, 16],
        ["aten.index_copy_.default", 1552, 1536],
    ]
    assert known["launches"] == 8
    assert known["mb_per_image"] == pytest.approx((10048 + 12352) / 1e6)
    assert not known["findings"]


def test_mixing_devices_raises(cases: dict[str, Any]) -> None:
    *mixes, numpy = cases["mixed"]
    assert len(mixes) == 6
    assert all("Expected all tensors to be on the same device" in said for said in mixes)
    assert "can't convert cuda:0 device type tensor to numpy" in numpy


def test_the_torch_backend_asks_for_nothing_and_draws_the_same_pixels(cases: dict[str, Any]) -> None:
    found = cases["gpuaug"]
    assert len(found) > 30
    assert [name for name, said in found.items() if not said["same"]] == []
    assert {name: said["later"] for name, said in found.items() if said["later"]} == {}
    assert all(said["launches"] for said in found.values())
    # JPEG's quantisation tables go to a device once
    assert {file for said in found.values() for file in said["first"]} <= {"gpuaug/kernels/torch/jpeg.py"}


@pytest.fixture
def triton(cases: dict[str, Any]) -> dict[str, Any]:
    if cases["triton"] is None:
        pytest.skip("Triton is not installed")
    return cases["triton"]


def test_triton_launches_run_in_the_interpreter_and_are_recorded(triton: dict[str, Any]) -> None:
    assert triton["right"]
    launch = triton["launch"]
    assert (launch["name"], launch["grid"]) == ("strided", [4])
    assert launch["constants"] == {"BLOCK": 32, "num_warps": 2}
    assert launch["numbers"] == {"step": 2, "count": 100}
    assert launch["tensors"]["source"] == [[200], [1], "torch.int32"]
    assert list(launch["tensors"]) == ["source", "out", "total"]
    assert launch["place"]["file"] == "tests/support/audit_cases.py"
    report = triton["report"]
    assert (report["launches"], report["triton_launches"], report["uploads"]) == (1, 1, 1)
    assert report["findings"] == []


def test_bytes_of_a_triton_launch(triton: dict[str, Any]) -> None:
    buffers = {buffer["names"][0]: buffer for buffer in triton["launch"]["buffers"]}
    source, out, total = (buffers[name] for name in ("source", "out", "total"))
    assert (source["size"], source["read"], source["written"], source["read_sectors"]) == (800, 400, 0, 800)
    assert (out["read"], out["written"], out["written_sectors"]) == (0, 400, 416)
    assert (total["read"], total["written"], total["loaded"], total["stored"]) == (4, 4, 16, 16)  # four programs add
    assert (triton["report"]["read"], triton["report"]["written"]) == (404, 404)


def test_bytes_that_were_not_counted_are_not_reported(triton: dict[str, Any]) -> None:
    quick = triton["quick"]
    assert quick["launches"] == 1
    assert quick["mb_per_image"] is None
    assert quick["buffers"] is None


def test_a_kernel_that_would_read_elsewhere_raises(triton: dict[str, Any]) -> None:
    host, outside = triton["errors"]
    assert "source is a CPU tensor" in host
    assert "reads outside its arguments" in outside


def test_a_kernel_that_another_library_launches_is_recorded(triton: dict[str, Any]) -> None:
    foreign = triton["foreign"]
    assert foreign["out"] == [0, 1, 2, 3, 4, 5]
    assert (foreign["triton_launches"], foreign["grid"]) == (1, [2])
    assert (foreign["by_name"]["strided"], foreign["findings"]) == (1, [])


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What the audit of torchvision and of a peer that does not run prints, and the file it writes."""
    if torch.cuda.is_available():
        pytest.skip("the harness stands in for a GPU that is missing")
    folder = tmp_path_factory.mktemp("audit")
    (folder / "torchaug.py").write_text("raise ImportError('broken on purpose')")
    file = folder / "audit.json"
    path = os.pathsep.join([str(folder), ENVIRONMENT["PYTHONPATH"]])
    options = ("--only", "torch", "--batch", "2", "--seeds", "1", "--json", str(file))
    return python("-m", "benchmarks.evidence.audit", *options, PYTHONPATH=path), file


def test_the_command_prints_tables_and_writes_json(command: tuple[str, Path]) -> None:
    shown, file = command
    assert max(map(len, shown.splitlines())) <= 80
    assert "Counts and calculated bounds. Nothing was timed, and nothing ran on a GPU." in shown
    assert "one draw for the batch" in shown
    written = json.loads(file.read_text())
    assert (written["timed"], written["calculated"]) == (False, True)
    whole = {row["case"]: row for row in written["rows"] if row["who"] == "torchvision v2, whole batch"}
    loop = {row["case"]: row for row in written["rows"] if row["who"] == "torchvision v2, image by image"}
    assert set(whole) == set(loop) == {"crop + flip", "+ RandAugment", "+ ColorJitter"}
    (jitter,) = whole["+ ColorJitter"]["draws"]
    assert jitter["waits"] >= 2  # Normalize makes tensors of its mean and std at every call
    assert jitter["launches"] > 50
    assert jitter["mb_per_image"] > 10
    assert loop["crop + flip"]["draws"][0]["launches"] > whole["crop + flip"]["draws"][0]["launches"]


def test_a_peer_that_does_not_run_is_reported(command: tuple[str, Path]) -> None:
    shown, file = command
    absent = [row for row in json.loads(file.read_text())["absent"] if row["who"] == "torchaug"]
    assert [row["case"] for row in absent] == ["crop + flip", "+ RandAugment", "+ ColorJitter"]
    assert {row["error"] for row in absent} == {"ImportError: broken on purpose"}
    assert shown.count("absent: ImportError: broken on purpose") == 3


def test_triton_is_interpreted_however_the_command_is_started() -> None:
    """torchvision imports Triton, which reads the environment variable once."""
    code = "import benchmarks.evidence.audit, triton; print(type(triton.language.sum).__name__)"
    assert python("-c", code, TRITON_INTERPRET="").strip() == "InterpretedFunction"


SHOW = """
import json, sys
from rich.console import Console
from benchmarks.report.audit import show
result = json.load(open(sys.argv[1]))
result.update(json.loads(sys.argv[2]))
show(Console(width=80, highlight=False), result)
assert not {"torch", "benchmarks.evidence.pseudocuda"} & set(sys.modules)  # which would change the process
"""


def test_the_file_prints_as_the_command_did(command: tuple[str, Path]) -> None:
    shown, file = command
    assert python("-c", SHOW, str(file), "{}") == shown


def test_old_instruction_counts_are_said_to_be_old(command: tuple[str, Path]) -> None:
    counted = {"images": 28, "stale": False}
    fresh, stale = (
        python("-c", SHOW, str(command[1]), json.dumps({"instructions": {**counted, "stale": old}}))
        for old in (False, True)
    )
    assert "STALE" not in fresh
    assert "STALE: the kernels have changed" in stale
    assert "not counted yet" in python("-c", SHOW, str(command[1]), json.dumps({"instructions": None}))


STALE = """
import json, shutil, sys
from pathlib import Path
from benchmarks.evidence.bounds import KERNELS, STORED, fingerprint, stored
folder = Path(sys.argv[1])
shutil.copytree(KERNELS, folder / "same")
shutil.copytree(KERNELS, folder / "other")
with open(folder / "other" / "step.py", "a") as file:
    file.write("x = 1\\n")
(folder / "counts.json").write_text(json.dumps({"kernels": fingerprint()}))
(folder / "old.json").write_text(json.dumps({"kernels": fingerprint(folder / "other")}))
files = [folder / name for name in ("counts.json", "old.json", "none.json")]
answers = [found and found["stale"] for found in map(stored, files)]
print(json.dumps([fingerprint() == fingerprint(folder / "same"), answers, [row["case"] for row in stored()["rows"]]]))
"""


def test_stored_instruction_counts_know_their_kernels(tmp_path: Path) -> None:
    same, answers, cases = json.loads(python("-c", STALE, str(tmp_path)))
    assert same
    assert answers == [False, True, None]
    assert cases == ["crop + flip", "+ RandAugment", "+ RandAugment + MixUp", "+ ColorJitter"]


BOUNDS = """
import json
from benchmarks.evidence.gpus import GPUS, RATES, bounds
least = [bounds(1.008e6), bounds(1.008e6, 2e-6 * 108 * 4 * 1.41e9)]
print(json.dumps([least, {model: list(rates) for model, rates in RATES.items()}, list(GPUS)]))
"""


def test_bounds_and_shares_of_a_hand_made_count() -> None:
    (memory, both), rates, gpus = json.loads(python("-c", BOUNDS))
    assert gpus == ["A100", "H100", "RTX 4090"]
    assert rates == dict.fromkeys(("ResNet-18", "ResNet-50", "ViT-B/16"), gpus)
    assert memory["RTX 4090"]["memory_us"] == pytest.approx(1)  # 1.008 MB at 1.008 TB/s
    assert memory["RTX 4090"]["issue_us"] is None
    assert memory["RTX 4090"]["step_percent"]["ResNet-50"] == pytest.approx(0.1301)  # 1 us of the 769 of an image
    assert both["A100"]["memory_us"] == pytest.approx(1.008 / 1.555)
    assert both["A100"]["issue_us"] == pytest.approx(2)  # 108 multiprocessors x 4 instructions x 1.41 GHz
    assert both["A100"]["step_percent"]["ResNet-50"] == pytest.approx(0.494)  # the larger, 2 us, at 2,470 images/s
    assert both["RTX 4090"]["step_percent"]["ResNet-50"] == pytest.approx(0.1301)  # memory is the larger here
