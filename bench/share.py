"""How much of a training step is the networks' own: python -m bench.share

The limit of a step is forward, backward and update of what a method trains. Which calls these are is seen in one real
step, whatever the method: every outermost call of a module of its networks, teachers included, with its inputs and the
gradient that came back to its outputs. These calls alone are then made again, whole and bare steps in turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import partial
from inspect import isfunction
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

import sanslabel
from bench.interleaving import finish, interleaved, median_seconds, quartiles
from bench.markdown import table
from bench.running import figures, noise, prepared
from sanslabel import encoders, methods
from sanslabel.batch import Batch, Clock
from sanslabel.device import autocast
from sanslabel.engine import Record, optimize
from sanslabel.methods.method import Method, Networks, Objective
from sanslabel.training.determinism import reproducible
from sanslabel.training.run_log import LOG_EVERY

SAMPLES, BATCH, SIDE = 65_536, 128, 32
"""of a data set that fills the longest queue"""
ENCODER, OWN = "resnet18", ("vit_micro", "dcgan")
"""for all methods but those whose small recipe has an architecture of their own: a transformer, or a discriminator"""
SIZES = ("queue", "prototypes", "clusters", "outputs", "negatives", "shared")
"""numbers of a method that its loss or memory grows with"""
ROUNDS, PROFILED = 5, 3
"""turns of whole and bare steps, and steps whose parts are timed"""
PARTS = ("views", "losses", "memory", "clustering", "diagnostics")
"""of the package, whose time in the forward pass is taken apart"""


def cases() -> list[tuple[str, str]]:
    """Methods, and whether their sizes are those of the small recipe or, where these differ, of the paper."""
    return [
        (name, sizes) for name in methods.names() for sizes in ("small", "paper") if sizes == "small" or of_paper(name)
    ]


def of_paper(name: str) -> dict[str, Any]:
    """The paper's sizes that are not those of the small recipe."""
    chosen = methods.method_class(name)
    paper, small = chosen(), chosen.under(chosen.small)
    pairwise = ("width",) if chosen.family == "redundancy reduction" else ()  # whose loss is of all pairs of dimensions
    sizes = [f.name for f in fields(chosen) if f.name in SIZES + pairwise]
    return {size: getattr(paper, size) for size in sizes if getattr(paper, size) != getattr(small, size)}


@dataclass
class Call:
    """Of a module or one of its functions, in a real step."""

    function: Callable[..., Any]
    args: Any
    kwargs: Any
    graph: bool
    """whether gradients were on"""
    gradients: dict[int, dict[int, Tensor]] = field(default_factory=lambda: defaultdict(dict))
    """that came back, by the update and the place of the output"""


@dataclass
class Watched:
    """A method that remembers the calls of its networks up to each yield."""

    method: Method
    calls: list[Call] = field(default_factory=list)
    updates: list[tuple[str, list[Call]]] = field(default_factory=list)
    """the player that is moved and the calls since the last update"""

    def step(self, net: Networks, batch: Batch, clock: Clock) -> Iterator[Objective]:
        for objective in self.method.step(net, batch, clock):
            self.updates.append((objective.player, self.calls))
            self.calls = []
            yield objective

    @contextmanager
    def listening(self, net: nn.Module) -> Iterator[None]:
        """Remembers every outermost call of a module, or of another function that its class has."""
        depth = 0

        def enter(function: Callable[..., Any], args: Any, kwargs: Any) -> None:
            nonlocal depth
            if depth == 0:
                self.calls.append(Call(function, *tree_map(_leaf, (args, kwargs)), torch.is_grad_enabled()))
            depth += 1

        def leave(output: Any) -> None:
            nonlocal depth
            depth -= 1
            if depth == 0:
                for place, tensor in enumerate(tree_flatten(output)[0]):
                    if isinstance(tensor, Tensor) and tensor.requires_grad:
                        tensor.register_hook(partial(self._keep, self.calls[-1], place))

        def heard(function: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*args: Any, **kwargs: Any) -> Any:
                enter(function, args, kwargs)
                output = function(*args, **kwargs)
                leave(output)
                return output

            return wrapped

        handles = [m.register_forward_pre_hook(enter, with_kwargs=True) for m in net.modules()]
        handles += [
            m.register_forward_hook(lambda m, a, k, output: leave(output), with_kwargs=True) for m in net.modules()
        ]
        functions = [(m, name) for m in net.modules() for name in _functions(m)]
        for module, name in functions:
            setattr(module, name, heard(getattr(module, name)))
        try:
            yield
        finally:
            for module, name in functions:
                delattr(module, name)
            for handle in handles:
                handle.remove()

    def _keep(self, call: Call, place: int, gradient: Tensor) -> None:
        """Samples that are made before one player's update may have their gradient in another's."""
        call.gradients[len(self.updates) - 1][place] = gradient.clone()


def _functions(module: nn.Module) -> set[str]:
    """What an encoder can be asked for beside its representation: tokens, stages, …"""
    own = [c for c in type(module).__mro__ if c.__module__.startswith("sanslabel.encoders")]
    found = {name for c in own for name, value in vars(c).items() if isfunction(value)}
    return {name for name in found if not name.startswith("_") and not name.endswith("_") and name != "forward"}


def _leaf(value: Any) -> Any:
    return value.detach().requires_grad_(value.requires_grad) if isinstance(value, Tensor) else value


class Steps:
    """Whole and bare steps of a method on the same networks."""

    def __init__(self, name: str, sizes: str, device: torch.device) -> None:
        chosen = methods.method_class(name)
        numbers = dict(chosen.small.hyperparameters) | (of_paper(name) if sizes == "paper" else {})
        own = encoders.encoder_options(chosen.small.encoder)
        encoder = own if own["name"] in OWN else encoders.encoder_options(ENCODER)
        data = noise(SAMPLES, 3, SIDE)
        self.device, self.encoder = device, encoder["name"]
        self.training = prepared(
            chosen(**numbers),
            chosen.small,
            data,
            encoder,
            size=SIDE,
            batch=BATCH,
            device=device,
            start=SAMPLES // BATCH,
        )
        self.watched = Watched(self.training.method)
        filling = _one_epoch_before(self.training.batches)
        self.stream = optimize(*self.training._replace(method=self.watched, batches=filling))  # pyright: ignore
        next(self.stream)  # an epoch of one step, which fills memories
        self.whole()
        self.watched.updates.clear()
        with self.watched.listening(self.training.net):
            self.record = self.whole()
        self.updates = [*self.watched.updates, ("", self.watched.calls)]

    def whole(self) -> Record:
        """Everything that a run does between two steps but the line of figures."""
        self.watched.updates.clear()
        record = next(self.stream)
        assert not record.refused
        return record

    def bare(self) -> None:
        precision, made = self.training.precision, list[tuple[Call, list[Any]]]()
        for update, (player, calls) in enumerate(self.updates):
            with autocast(self.device, precision):
                for call in calls:
                    with torch.set_grad_enabled(call.graph):
                        made.append((call, tree_flatten(call.function(*call.args, **call.kwargs))[0]))
            moving = [(call, outputs) for call, outputs in made if update in call.gradients]
            if not moving:
                continue
            outputs = [outputs[place] for call, outputs in moving for place in call.gradients[update]]
            gradients = [gradient for call, _ in moving for gradient in call.gradients[update].values()]
            given = [x for call, _ in moving for x in tree_flatten((call.args, call.kwargs))[0]]
            leaves = [x for x in given if isinstance(x, Tensor) and x.requires_grad]
            side = self.training.players[player]
            side.optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(outputs, gradients, inputs=[*side.parameters, *leaves])
            for leaf in leaves:
                leaf.grad = None
            side.optimizer.step()


def _one_epoch_before(batches: Iterator[tuple[Clock, Batch]]) -> Iterator[tuple[Clock, Batch]]:
    clock, batch = next(batches)
    yield clock._replace(epoch=0, step=0, steps_per_epoch=1), batch
    yield from batches


@contextmanager
def by_part(device: torch.device) -> Iterator[dict[str, float]]:
    """Adds up how long the functions of each part of the package take by themselves, without the networks that they
    call and the backward pass."""
    folder = str(Path(sanslabel.__file__).parent)
    starts = {f"{folder}/{part}": part for part in PARTS} | {torch.nn.modules.module.__file__: ""}
    seconds = dict.fromkeys(PARTS, 0.0)
    within: list[str] = []  # parts and networks, those that were called by others last
    last = 0.0

    def heard(frame: Any, event: str, _: Any) -> None:
        nonlocal last
        if event not in ("call", "return"):
            return
        file = frame.f_code.co_filename
        part = next((part for start, part in starts.items() if file.startswith(start)), None)
        if part is None:
            return
        finish(device)
        now = time.perf_counter()
        if within and within[-1]:
            seconds[within[-1]] += now - last
        within.append(part) if event == "call" else within.pop()
        last = now

    sys.setprofile(heard)
    try:
        yield seconds
    finally:
        sys.setprofile(None)


def measured(name: str, sizes: str, device: torch.device, rounds: int = ROUNDS) -> dict[str, Any]:
    """The line of a case."""
    with reproducible(device):
        steps = Steps(name, sizes, device)
        taken = interleaved({"whole": steps.whole, "bare": steps.bare}, device, rounds, at_least=1.0)
        with figures(steps.training) as write:
            line = median_seconds({"line": lambda: write(steps.record)}, device, rounds=3)["line"] / LOG_EVERY
        found = []
        for _ in range(PROFILED):
            with by_part(device) as parts:
                steps.whole()
            found.append(parts)
    shares = [1 - bare / (whole + line) for whole, bare in zip(taken["whole"], taken["bare"], strict=True)]
    return {
        "case": f"{name}, {sizes} sizes",
        "method": name,
        "sizes": of_paper(name) if sizes == "paper" else {},
        "encoder": steps.encoder,
        "batch": BATCH,
        "whole_seconds": median(taken["whole"]),
        "bare_seconds": median(taken["bare"]),
        "line_seconds": line,
        "share_quartiles": quartiles(shares),
        **{f"{part}_seconds": median(parts[part] for parts in found) for part in PARTS},
    }


def lines(device: torch.device) -> Iterator[dict[str, Any]]:
    for name, sizes in cases():
        yield measured(name, sizes, device)


REASONS = {
    "ebgan": "its networks take an eighth of a second, beside which noise and the checks of two updates weigh more",
    "cpc": "its loss is three products of 8,064 predictions, 6,272 patches and 512 numbers in float32",
}
"""beside shares above a tenth, by method"""
TEXT = f"""## What of a step is not the network's own

Color images of {SIDE}x{SIDE} in batches of {BATCH} from a set of {SAMPLES:,}, in the precision and memory format of
`sanslabel train`, with ResNet-18 and its stem for small images; transformers and discriminators where a method is made
for these. The sizes are those of the small recipe, and once more the paper's where its queue, bank or head is another:
NPID and PIRL have all of the bank as negatives in the small recipe, and draw some in the paper. One real step is
watched for the calls that a method makes of its networks, its teachers included; these calls alone, on the same inputs
and with the same gradients of their outputs, then backward and update, are the bare step. Whole and bare steps take
turns. What is left is the share of all else, with its quartiles over {ROUNDS} turns: views,
loss and its gradient, memories and teachers' averages, norms of gradients, loading, and figures every tenth step. Where
these have zero between them or above them, it is too little to tell. The four columns of milliseconds after it are of
the forward pass, in which CPC, NPID, PIRL and MoCo make the gradient of their loss, too, part by part; k-means at the
end of an epoch is in none of them.
"""
HEAD = ("method", "encoder", "step, ms", "all else", "", "views", "loss", "memory", "figures", "")


def section(found: list[dict[str, Any]]) -> str:
    rows = []
    for line in found:
        sizes = ", ".join(_size(*size) for size in line["sizes"].items())
        step = line["whole_seconds"] + line["line_seconds"]
        parts = [f"{1000 * line[f'{part}_seconds']:.0f}" for part in ("views", "losses")]
        memory = 1000 * (line["memory_seconds"] + line["clustering_seconds"])
        watching = 1000 * (line["diagnostics_seconds"] + line["line_seconds"])
        low, share, high = (100 * value for value in line["share_quartiles"])
        reason = REASONS.get(line["method"], "") if share > 10 else ""
        cells = [line["method"] + (f" ({sizes})" if sizes else ""), line["encoder"], f"{1000 * step:.0f}"]
        cells += [f"{share:.1f} %", f"{low:.1f} to {high:.1f}", *parts, f"{memory:.0f}", f"{watching:.0f}", reason]
        rows.append(cells)
    return f"{TEXT}\n{table(HEAD, rows, right=range(2, 9))}\n"


def _size(name: str, value: Any) -> str:
    if name == "shared":
        return "drawn for each image"
    return f"queue of {value:,}" if name == "queue" else f"{value:,} {'dimensions' if name == 'width' else name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--methods", nargs="+", default=methods.names())
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--sizes", nargs="+", default=["small", "paper"])
    flags = parser.parse_args()
    for name, sizes in cases():
        if name in flags.methods and sizes in flags.sizes:
            print(json.dumps(measured(name, sizes, torch.device(flags.device), flags.rounds)), flush=True)


if __name__ == "__main__":
    main()
