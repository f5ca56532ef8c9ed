"""Draws that are functions of a key, never of a state.

A key is an integer in [0, 2^32): a Python int, or an int64 tensor with one key per sample. `fold` makes new keys from
old ones, and `uniform`, `normal`, `integers` and `permutation` turn keys into numbers. The same key and stream give the
same draw on every device, process, worker and run, so that nothing about randomness need ever be saved.
"""

from __future__ import annotations

import math
from enum import IntEnum, unique
from typing import Any, TypeVar, overload

import torch
from torch import Tensor

Key = TypeVar("Key", int, Tensor)

_MASK = 0xFFFFFFFF
_GOLDEN = 0x9E3779B9


@unique
class Stream(IntEnum):
    """Names of the keys that are made from a seed: `fold(seed, Stream.ORDER, epoch)`. A number never gets another
    meaning, since runs of the past depend on it."""

    SAMPLE = 0
    """draws for each sample of an epoch"""
    STEP = 1
    """draws for a step"""
    ORDER = 2
    """the order of samples in an epoch"""
    WEIGHTS = 3
    """the first weights of a run"""
    BASELINE = 4
    """the weights of the untrained baseline"""
    FOLDS = 5
    """the division of training samples into fifths"""
    FEW_LABELS = 6
    """the samples with labels in a round with few labels"""
    QUERIES = 9
    """the test samples that search the training samples"""
    STAGE_SAMPLES = 10
    """the training samples that probes of all stages are fitted on"""
    FINE_TUNING = 11
    """the run that fine-tunes"""
    MAP = 12
    """the points of a report's map"""
    TRIPLETS = 13
    """triplets of samples by their labels"""
    CHANGES = 14
    """the samples whose changed versions are compared"""
    SIMILARITY = 15
    """the test samples whose distances are compared with labels"""
    MAP_PROBE = 16
    """the training samples of a report's probe"""
    REFERENCE_TRIPLETS = 17
    """triplets of samples by the distances of another encoder"""
    SHOWN = 18
    """the samples that are reconstructed or interpolated"""
    QUALITY = 19
    """the samples that generated ones are compared with"""
    PARTNER = 20
    """the partner of a sample, from the key of the sample"""
    SOUND = 21
    """the window of a sample's sound, from the key of the sample"""
    FRAMES = 24
    """the frames that protocols of clips compare"""
    MATCHING = 25
    """the test samples whose two signals are matched, and their shuffled partners"""
    BOX = 26
    """the place and size of a sample's box, from the key of the sample"""


def mix(key: Key) -> Key:
    """Returns the hash of a key: a bijection of 32-bit integers without visible pattern. It is "lowbias32", the hash of
    two multiplications with the lowest bias that C. Wellons' search found. Only shifts, exclusive or and multiplication
    modulo 2^64 are used, so that Python integers and int64 tensors of every device agree."""
    key = key ^ (key >> 16)
    key = (key * 0x7FEB352D) & _MASK
    key = key ^ (key >> 15)
    key = (key * 0x846CA68B) & _MASK
    return key ^ (key >> 16)


@overload
def fold(key: int, *values: int) -> int: ...  # pyright: ignore[reportOverlappingOverload]


@overload
def fold(key: int | Tensor, *values: int | Tensor) -> Tensor: ...


def fold(key: Any, *values: Any) -> Any:
    """Returns the key that belongs to `key` and every one of `values`, in order. Integers give an integer. A tensor
    among them makes the result a tensor by broadcasting, with the same numbers."""
    for value in values:
        key = mix((mix((value + _GOLDEN) & _MASK) + key * 0x2545F491) & _MASK)
    return key


def bits(key: Tensor, count: int, stream: int) -> Tensor:
    """Returns random bits, (N,) keys -> (N, count) int64 in [0, 2^32), independent across keys, streams and columns."""
    columns = torch.arange(count, device=key.device)
    return mix((fold(key, stream)[:, None] + columns * _GOLDEN) & _MASK)


def uniform(key: Tensor, count: int, stream: int) -> Tensor:
    """Returns uniform draws, (N,) keys -> (N, count) float32 in [0, 1), multiples of 2^-24."""
    return (bits(key, count, stream) >> 8).float() * 2.0**-24


def normal(key: Tensor, count: int, stream: int) -> Tensor:
    """Returns normal draws, (N,) keys -> (N, count) float32 of mean 0 and variance 1 (Box and Muller 1958)."""
    radius, angle = uniform(key, 2 * count, stream).chunk(2, dim=1)
    return torch.sqrt(-2 * torch.log1p(-radius)) * torch.cos(2 * math.pi * angle)


def integers(key: Tensor, count: int, high: int, stream: int) -> Tensor:
    """Returns draws of integers, (N,) keys -> (N, count) int64, uniform in [0, high), 0 < high <= 2^31."""
    return (bits(key, count, stream) * high) >> 32


def permutation(key: int, length: int) -> Tensor:
    """Returns a permutation of range(length), (length,) int64 on the CPU: the order of 62-bit hashes, ties by
    position."""
    index = torch.arange(length)
    high, low = mix(fold(key, 0) ^ mix(index)), mix(fold(key, 1) ^ mix(index))
    return torch.argsort((high << 30) ^ (low >> 2), stable=True)
