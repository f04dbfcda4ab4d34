"""The contestants. Each is used as its own documentation says, and imported only when it is asked for."""

from __future__ import annotations

import importlib

from .peer import Peer, PeerError

__all__ = ["OURS", "PEERS", "Peer", "PeerError", "enter"]

OURS = "gpuaug"
PEERS = {  # name -> module:class
    OURS: "v2:Gpuaug",
    "torchvision v2, PIL": "v2:TorchvisionPil",
    "torchvision v2, tensors": "v2:TorchvisionTensors",
    "torchvision v2, batch": "v2:TorchvisionBatch",
    "AlbumentationsX": "albumentations:Albumentations",
    "AlbumentationsX, area": "albumentations:AlbumentationsArea",
    "Kornia": "kornia:Kornia",
    "Kornia, compiled": "kornia:KorniaCompiled",
    "DALI": "dali:Dali",
    "triton-augment": "small:TritonAugment",
    "torchaug": "small:Torchaug",
}


def enter(name: str, threads: int, device: str = "cpu") -> Peer:
    """The contestant of that name.

    Raises:
        PeerError: if it is not installed or does not run here, with its own words.
    """
    module, kind = PEERS[name].split(":")
    try:
        peer: Peer = getattr(importlib.import_module(f".{module}", __package__), kind)(name, threads, device)
    except PeerError:
        raise
    except Exception as error:
        raise PeerError(f"{type(error).__name__}: {error}") from error
    return peer
