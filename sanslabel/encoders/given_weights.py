"""Copies weights of other networks into an encoder: matches tensors by name, and adapts tensors of other shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sanslabel.errors import BadInput

if TYPE_CHECKING:
    from sanslabel.encoders.encoder import Encoder

WRAPPERS = ("module.", "backbone.", "encoder.", "model.", "trunk.", "_orig_mod.")
"""prefixes that libraries and methods put before the names of an encoder"""
HEADS = ("fc.", "head.", "head_drop.", "classifier.", "code.")
"""prefixes of the tensors of a head: a classifier, or an autoencoder's code"""
LEAST_MATCHED = 0.9
"""smallest share of an encoder's numbers that given weights must contain"""
DEEPEST = 8
"""largest number of wrappers around an encoder"""
LONGEST_NAME = 80
"""number of characters of a name that a report shows"""
SHOWN = 6
"""number of tensors that a line of a report names"""


@dataclass(frozen=True, kw_only=True)
class KeyReport:
    """Report on given weights that were copied into an encoder, which is printed as text."""

    source: str
    """the path of the weights"""
    prefix: str
    """prefix that was taken off the names of the given tensors"""
    tensors: int
    """number of the encoder's tensors"""
    matched: tuple[str, ...]
    """tensors of the encoder that were filled"""
    share: float
    """share of the encoder's numbers that were filled, in [0, 1]"""
    reshaped: tuple[str, ...]
    """tensors of another shape, each with a description of how it was adapted"""
    missing: tuple[str, ...]
    """tensors of the encoder that keep their fresh values"""
    heads: tuple[str, ...]
    """given tensors of a head, such as a classifier, which are ignored"""
    unused: tuple[str, ...]
    """other given tensors that the encoder does not have"""

    def __str__(self) -> str:
        """Returns the report as lines of text."""
        share = f"{100 * self.share:.1f} % of all numbers"
        without = f", without the prefix {self.prefix!r}" if self.prefix else ""
        lines = [f"weights from {self.source}"]
        lines.append(f"  matched   {len(self.matched)} of {self.tensors} tensors, {share}{without}")
        lines += [f"  reshaped  {line}" for line in self.reshaped]
        lines.append(f"  missing   {_listed(self.missing) or 'none'}")
        lines += [f"  ignored   {_listed(self.heads)} (a head)"] * bool(self.heads)
        lines += [f"  unused    {_listed(self.unused)}"] * bool(self.unused)
        return "\n".join(lines)


def load_given_(encoder: Encoder, tensors: Mapping[str, Tensor], source: str, allow_missing: bool = False) -> KeyReport:
    """Copies given tensors into an encoder by their names, and returns a report on all of them.

    Prefixes such as `module.` or `backbone.` are taken off, classifier heads are ignored, and tensors are reshaped as
    far as `Encoder.fitted` can. Raises BadInput if a tensor has a shape that does not fit, or numbers that are not
    finite. Raises BadInput if less than 90 % of the encoder's numbers match, unless `allow_missing`. After an error,
    the encoder is unchanged.
    """
    state = encoder.state_dict()
    prefix, inner = _prefixes(state, tensors)
    given = {inner + name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    fitted: dict[str, Tensor] = {}
    reshaped: list[str] = []
    for name in (name for name in state if name in given):
        result = encoder.fitted(name, given[name])
        if result is None:
            raise BadInput(
                f"{source}: tensor {name!r} is of shape {tuple(given[name].shape)} where {tuple(state[name].shape)} is "
                "needed; choose the encoder and the options of these weights."
            )
        _check_values(name, given[name], state[name], source)
        fitted[name], change = result
        reshaped += [f"{name}: {change}"] * bool(change)
    others = [name for name in tensors if inner + name.removeprefix(prefix) not in state or not name.startswith(prefix)]
    heads = [name for name in others if name.removeprefix(prefix).startswith(HEADS)]
    report = KeyReport(
        source=source,
        prefix=prefix,
        tensors=len(state),
        matched=tuple(fitted),
        share=sum(state[name].numel() for name in fitted) / sum(tensor.numel() for tensor in state.values()),
        reshaped=tuple(reshaped),
        missing=tuple(name for name in state if name not in fitted),
        heads=tuple(heads),
        unused=tuple(name for name in others if name not in heads),
    )
    if not fitted or (report.share < LEAST_MATCHED and not allow_missing):
        raise BadInput(
            f"{source}: only {100 * report.share:.0f} % of the numbers of {encoder.config['name']} are there (missing "
            f"are {_listed(report.missing)}); name weights of this encoder{', or add --allow-missing' * bool(fitted)}."
        )
    with torch.no_grad():
        for name, tensor in fitted.items():
            state[name].copy_(tensor)
    return report


def _check_values(name: str, given: Tensor, wanted: Tensor, source: str) -> None:
    """Raises BadInput if the given numbers are complex, not finite, or floats where integers are needed or the
    reverse."""
    if given.is_floating_point() != wanted.is_floating_point() or given.is_complex():
        raise BadInput(f"{source}: tensor {name!r} is of {given.dtype}; name weights that are stored as floats.")
    if given.is_floating_point() and not given.to(torch.promote_types(given.dtype, torch.float32)).isfinite().all():
        raise BadInput(f"{source}: tensor {name!r} has values that are not finite; name other weights.")


def with_channels(kernel: Tensor, channels: int) -> tuple[Tensor, str]:
    """Returns a convolution's kernel for another number of channels, and a few words on how it was changed.

    kernel: (O, C, h, w) -> (O, channels, h, w). One channel takes the mean times C; several channels repeat the given
    ones in turn, times C / channels. On images whose channels are alike, outputs are unchanged for one channel and for
    multiples of C. For other numbers, outputs have about the same size.
    """
    given = kernel.shape[1]
    change = f"from {given} to {channels} channels"
    if channels == 1:
        return kernel.mean(dim=1, keepdim=True) * given, f"{change}, by the mean times {given}"
    repeated = kernel[:, [i % given for i in range(channels)]]
    return repeated * (given / channels), f"{change}, repeated and times {given / channels:.3g}"


def _prefixes(state: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> tuple[str, str]:
    """Returns the prefix to take off the given names, and the one to put before them, that match most numbers."""

    def matched(pair: tuple[str, str]) -> tuple[int, int]:
        """Returns a sort key: the count of matched numbers, then minus the length of the prefixes."""
        outer, inner = pair
        names = [name for name in state if name.startswith(inner) and outer + name[len(inner) :] in tensors]
        return sum(state[name].numel() for name in names), -len(outer + inner)

    return max(product(_wrappers(tensors), _wrappers(state)), key=matched)


def _wrappers(names: Iterable[str]) -> list[str]:
    """Returns the prefixes of these names that are made of `WRAPPERS`, and the empty one."""
    prefixes = {""}
    for name in names:
        prefix = ""
        for _ in range(DEEPEST):
            prefix += next((wrapper for wrapper in WRAPPERS if name.startswith(wrapper, len(prefix))), "")
            prefixes.add(prefix)
    return sorted(prefixes)


def _listed(names: tuple[str, ...]) -> str:
    """Returns the first names as text, and the number of others. Names are escaped and cut, since a file may contain
    any."""
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(repr(name)[1:-1][:LONGEST_NAME] for name in names[:SHOWN]) + rest
