"""Several processes: an image's draw does not depend on how many there are, and no two share one by accident."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Subset

import gpuaug as ga
from gpuaug.data.parts import is_installed
from gpuaug.demo import photographs
from tests.support import ranks
from tests.support.helpers import anew, used
from tests.support.regions import write_files

if not torch.distributed.is_available() or sys.platform == "win32":
    pytest.skip("needs gloo and forkserver", allow_module_level=True)

EXAMPLES = Path(__file__).parents[2] / "examples"
Sampler = ga.data.RepeatedAugmentationSampler


@pytest.fixture(scope="module", params=[2, 4])
def processes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What ranks.everything found on each rank of a real group."""
    return ranks.launch(ranks.everything, request.param, tmp_path_factory.mktemp("ranks"))


def joined(parts: Sequence[dict[int, str]]) -> dict[int, str]:
    """Of all ranks; an image that two of them show to make the ranks even looks the same on both."""
    whole: dict[int, str] = {}
    for part in parts:
        assert all(whole.get(number, pixels) == pixels for number, pixels in part.items())
        whole |= part
    return whole


# ---- by index --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [2, 3, 4])
def test_the_number_of_ranks_changes_no_pixel(world: int) -> None:
    alone = ranks.shares(num_replicas=1, rank=0)
    assert sorted(alone) == list(range(ranks.IMAGES))
    parts = [ranks.shares(num_replicas=world, rank=rank) for rank in range(world)]
    assert joined(parts) == alone
    assert all(len(part) < len(alone) for part in parts)


def test_nor_does_a_real_group(processes: list[dict[str, Any]]) -> None:
    assert joined([found["shares"] for found in processes]) == ranks.shares(num_replicas=1, rank=0)


def test_another_seed_changes_every_image(processes: list[dict[str, Any]]) -> None:
    alone = ranks.shares(num_replicas=1, rank=0)
    others = joined([found["another seed"] for found in processes])
    assert sorted(others) == sorted(alone)
    assert all(others[number] != pixels for number, pixels in alone.items())


# ---- by the counter --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not is_installed(), reason="nvImageCodec, which decodes parts, is not installed")
def test_training_on_parts_of_images_in_a_real_group(tmp_path: Path) -> None:
    """Each (epoch, image) has the pixels that one process gives it from whole images, and the weights are those too."""
    root = write_files(tmp_path / "files")
    alone = ranks.trained(0, root, regions=False, ranks=1)
    assert alone["parts"] == 0
    found = ranks.launch(ranks.both, 2, tmp_path, root)
    count = len(ga.data.ImageFolder(root))
    for kind, cut in enumerate((False, True)):
        of_ranks = [rank[kind] for rank in found]
        assert joined([one["shown"] for one in of_ranks]) == alone["shown"]
        assert len(alone["shown"]) == 2 * count
        assert all((one["parts"] > count // 2) == cut for one in of_ranks)
        for one in of_ranks:
            assert all(map(torch.equal, one["weights"], found[0][0]["weights"]))


def test_ranks_without_an_index_never_repeat_each_other(processes: list[dict[str, Any]]) -> None:
    keys = [key for found in processes for key in found["counted"][0]]
    assert len(set(keys)) == len(keys) == len(processes) * ranks.BATCH
    pixels = [image for found in processes for image in found["counted"][1]]
    assert len(set(pixels)) == len(pixels) >= len(processes) * 16


def test_ranks_with_equal_indices_do(processes: list[dict[str, Any]]) -> None:
    """In an epoch that was told, so the test above can fail."""
    pixels = [image for found in processes for image in found["indexed alike"]]
    assert len(set(pixels)) == ranks.BATCH


def test_mixing_runs_within_a_rank(processes: list[dict[str, Any]]) -> None:
    for found in processes:
        assert found["mixed"].shape == (-(-ranks.IMAGES // len(processes)), ranks.CLASSES)
        assert torch.allclose(found["mixed"].sum(1), torch.ones(()))


# ---- inside DistributedDataParallel ----------------------------------------------------------------------------------


def test_wrapping_leaves_each_rank_its_own_counter(processes: list[dict[str, Any]]) -> None:
    """Unlike weights and running statistics, counter and epoch are no buffers, so nothing sends them about."""
    for rank, found in enumerate(processes):
        wrapped = found["wrapped"]
        assert wrapped["state"] == {"epoch": rank, "counter": (rank + 3) * ranks.BATCH}
        assert wrapped["loaded"] == wrapped["state"]
        assert wrapped["wrapped keys"] == wrapped["keys"]
    shown = [image for found in processes for image in found["wrapped"]["shown"]]
    assert len(set(shown)) == len(shown) == len(processes) * 3 * ranks.BATCH


def test_wrapping_sends_only_the_buffers_of_foreign_steps(processes: list[dict[str, Any]]) -> None:
    """Kornia keeps the bounds of its draws in buffers: a few bytes, constant, and rank 0's reach everybody."""
    for found in processes:
        wrapped = found["wrapped"]
        assert wrapped["of a module of our own"] == 0
        assert wrapped["broadcast"] == wrapped["of the network"] + 1
        assert wrapped["degrees"] == [[-20.0, 20.0]], "the ranks were built with 20, 21, ..."


def test_wrapping_trains(processes: list[dict[str, Any]]) -> None:
    first, *others = (found["wrapped"] for found in processes)
    for other in others:
        assert all(map(torch.equal, other["weights"], first["weights"]))
        assert not torch.equal(other["running mean"], first["running mean"]), "they saw different pixels"


# ---- repeated augmentation -------------------------------------------------------------------------------------------


def blank(count: int) -> ga.data.Indexed:
    return ga.data.Indexed([(torch.zeros(3, 8, 8, dtype=torch.uint8), 0)] * count)


@pytest.mark.parametrize("repeats", [1, 1.5, 3, 3.7])
@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [5, 37, 300])
@pytest.mark.parametrize("options", [{}, {"selected_round": 0}, {"selected_round": 16, "selected_ratio": 0.3}], ids=str)
def test_repeats_are_dealt_as_timm_deals_them(count: int, world: int, repeats: float, options: dict[str, Any]) -> None:
    timm = pytest.importorskip("timm.data.distributed_sampler")
    for rank in range(world):
        theirs = timm.RepeatAugSampler(blank(count), world, rank, num_repeats=repeats, **options)
        ours = Sampler(blank(count), repeats, num_replicas=world, rank=rank, **options)
        assert len(ours) == len(theirs)
        for epoch in (0, 4):
            theirs.set_epoch(epoch)
            ours.set_epoch(epoch)
            assert [number for number, _ in ours] == [int(number) for number in theirs]


def test_the_order_is_of_seed_plus_epoch() -> None:
    def order(seed: int, epoch: int, shuffle: bool = True) -> list[tuple[int, int]]:
        sampler = Sampler(blank(37), seed=seed, shuffle=shuffle)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 5) == order(5, 0) == order(2, 3)
    assert order(0, 5) != order(0, 4)
    assert order(0, 5, shuffle=False) == order(1, 4, shuffle=False)
    assert order(0, 5, shuffle=False)[:5] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]


@pytest.mark.parametrize("repeats", [1, 1.1, 1.5, 3, 3.7])
@pytest.mark.parametrize("world", [1, 2, 3, 7, 50])
@pytest.mark.parametrize("ratio", [0, 0.1])
def test_no_two_samples_of_an_epoch_share_an_index(world: int, repeats: float, ratio: float) -> None:
    """Even when `ratio` deals every copy, and some again to make the ranks even."""
    count = 23
    samplers = [Sampler(blank(count), repeats, num_replicas=world, rank=r, selected_ratio=ratio) for r in range(world)]
    dealt = [number | copy << 48 for sampler in samplers for number, copy in sampler]
    assert len(set(dealt)) == len(dealt) == world * len(samplers[0])
    if ratio:
        assert set(dealt) >= set(range(count)), "the first copy of each image is among them"


@pytest.mark.parametrize("world", [3, 4])
def test_copies_go_to_different_ranks(world: int) -> None:
    dealt = [list(Sampler(blank(24), num_replicas=world, rank=rank, selected_ratio=1 / 3)) for rank in range(world)]
    assert sorted(pair for part in dealt for pair in part) == [(n, copy) for n in range(24) for copy in range(3)]
    for part in dealt:
        numbers = [number for number, _ in part]
        assert len(set(numbers)) == len(numbers)
    together = list(Sampler(blank(24), num_replicas=2, rank=0, selected_ratio=1 / 3))
    assert len({number for number, _ in together}) < len(together), "which two ranks cannot do"


def test_a_real_group_says_who_is_who(processes: list[dict[str, Any]]) -> None:
    for rank, found in enumerate(processes):
        expected = Sampler(ranks.dataset(), 3, num_replicas=len(processes), rank=rank, seed=5)
        expected.set_epoch(ranks.EPOCH)
        assert found["repeated"] == list(expected)


def test_each_copy_has_the_draw_of_its_index() -> None:
    data = ranks.dataset()
    sampler = Sampler(data, 3, selected_ratio=1 / 3)  # all copies of all images
    batches = DataLoader(data, 6, sampler=sampler, collate_fn=ga.ragged_collate)
    loader = ga.DeviceLoader(batches, "cpu", ga.Augment(ranks.steps(), backend="torch"))
    loader.set_epoch(2)
    assert sampler.epoch == loader.augment.epoch == 2
    shown = [image for images, _ in loader for image in images]
    assert len({ranks.digest(image) for image in shown}) == len(shown) == 3 * len(data)
    for (number, copy), image in list(zip(sampler, shown, strict=True))[::5]:
        alone = ga.Ragged.from_images([ranks.images()[number]])
        index = torch.tensor([number | copy << 48])
        assert torch.equal(anew(loader.augment, alone, index=index)[0], image)
        assert not torch.equal(anew(loader.augment, alone, index=torch.tensor([number | copy + 1 << 48]))[0], image)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11 calls it
@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_of_copies_can_be_resumed(workers: int) -> None:
    torchdata = pytest.importorskip("torchdata.stateful_dataloader")

    def loader() -> ga.DeviceLoader:
        data = ranks.dataset()
        options = {"num_workers": workers, "multiprocessing_context": "forkserver" if workers else None}
        sampler = Sampler(data, 3, seed=1)
        batches = torchdata.StatefulDataLoader(data, 5, sampler=sampler, collate_fn=ga.ragged_collate, **options)
        result = ga.DeviceLoader(batches, "cpu", ga.Augment(ranks.steps(), seed=0, backend="torch"))
        result.set_epoch(1)
        return result

    first = loader()
    batches = iter(first)
    next(batches), next(batches)
    state = first.state_dict()
    expected = [images for images, _ in batches]
    again = loader()
    again.load_state_dict(state)
    results = [images for images, _ in again]
    assert len(results) == len(expected) == 3
    assert all(map(torch.equal, results, expected))
    start = next(iter(loader()))[0]
    assert not torch.equal(start, expected[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dataset": [1, 2]}, r"`dataset` must be .*, got \[1, 2\]\. Wrap it in ga\.data\.Indexed\."),
        ({"dataset": Subset(blank(5), [1])}, r"`dataset` must be .*Wrap it in ga\.data\.Indexed\."),
        ({"dataset": blank(0)}, "`dataset` must be at least one image, got none"),
        ({"num_repeats": 0.5}, "`num_repeats` must be a number of at least 1, got 0.5"),
        ({"num_replicas": 0}, "`num_replicas` must be an integer of at least 1, got 0"),
        ({"num_replicas": 2, "rank": 2}, r"`rank` must be an integer in \[0, 1\], got 2"),
        ({"seed": -1}, "`seed` must be an integer in"),
        ({"selected_round": -1}, "`selected_round` must be an integer of at least 0"),
        ({"selected_ratio": -1}, "`selected_ratio` must be a number of at least 0"),
    ],
    ids=lambda value: "" if isinstance(value, str) else "-".join(value),
)
def test_what_the_sampler_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"RepeatedAugmentationSampler: {message}"):
        Sampler(**({"dataset": blank(5)} | arguments))


# ---- the example -----------------------------------------------------------------------------------------------------

KEEPS_WEIGHTS = """
import os, torch, train_ddp
model = train_ddp.main(train_ddp.parser.parse_args())
torch.save(model.state_dict(), f"rank{os.environ['RANK']}.pt")
"""


def run(folder: Path, *command: object) -> str:
    """What it prints; warnings are errors, in all processes."""
    paths = os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error", "PYTHONPATH": paths}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=ranks.LONGEST,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def photos(folder: Path) -> list[object]:
    """The arguments to train on a tiny ImageFolder, made in `folder`."""
    for part, copies in (("train", 4), ("val", 3)):
        for number, path in enumerate(photographs.paths()[:2]):
            target = folder / "data" / part / f"class{number}"
            target.mkdir(parents=True)
            for copy in range(copies - number):
                shutil.copyfile(path, target / f"{copy}.jpg")
    return ["--data", "data", "--batch", 2, "--size", 64, "--model", "shufflenet_v2_x0_5", "--workers", 0]


def rows(printed: str) -> list[str]:
    """The epochs of which it prints loss and accuracy."""
    return re.findall(r"^ +(\d+) +\d\.\d{3} +\d+\.\d$", printed, re.M)


@pytest.mark.skipif(
    torch.__version__.startswith("2.11."),
    reason="with Gloo, DDP's destructor and a thread that it joins wait for one another as a process ends (torch 2.11)",
)
def test_train_ddp(tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 2]
    settings = photos(tmp_path)
    printed = run(tmp_path, *torchrun, EXAMPLES / "train_ddp.py", *settings, "--epochs", 1)
    assert "processes: 2\n" in printed
    assert rows(printed) == ["1"], printed
    (tmp_path / "keeps.py").write_text(KEEPS_WEIGHTS)
    more = ["--epochs", 2, "--repeats", 3, "--resume"]
    printed = run(tmp_path, *torchrun, "keeps.py", *settings, *more)
    assert rows(printed) == ["2"], printed

    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    weights = {name for name in first if not name.endswith(("running_mean", "running_var"))}
    assert all(torch.equal(first[name], second[name]) for name in weights)
    assert any(not torch.equal(first[name], second[name]) for name in set(first) - weights), "they saw other images"
    checkpoint = torch.load(tmp_path / "ddp.pt", weights_only=True)
    assert checkpoint["epoch"] == 1
    saved = ga.Augment([])
    saved.load_state_dict(checkpoint["augment"])
    assert used(saved) == {"epoch": 1, "counter": 0}
    assert all(torch.equal(checkpoint["model"][name], first[name]) for name in first)


def test_train_ddp_on_one_process(tmp_path: Path) -> None:
    printed = run(tmp_path, EXAMPLES / "train_ddp.py", *photos(tmp_path), "--epochs", 1, "--workers", 1)
    assert "processes: 1\n" in printed
    assert rows(printed) == ["1"], printed
