"""Advice before training: what in a list, its classes, its weights or its loader is likely to cost accuracy or time."""

from __future__ import annotations

from gpuaug.advice.entry import advise
from gpuaug.advice.facts import Finding, Findings

__all__ = ["Finding", "Findings", "advise"]
