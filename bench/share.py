"""Measures the share of a training step that the networks take: python -m bench.share

The limit of a step is forward, backward and update of what a method trains. One real step records the calls: every
outermost call of a module of the networks, teachers included, with its inputs and the gradient of its outputs. A bare
step makes these calls alone. Complete and bare steps are measured by turns.
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
from bench.learning_tasks import of_images
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
"""samples of a data set that fills the longest queue, images in a batch, and their side in pixels"""
ENCODER, SPECIAL = "resnet18", ("vit_micro", "dcgan")
"""the encoder of all methods, except those whose small recipe needs a transformer or a discriminator"""
SIZES = ("queue", "prototypes", "clusters", "outputs", "negatives", "shared")
"""hyperparameters that the cost of a loss or memory grows with"""
ROUNDS, PROFILED = 5, 3
"""turns of complete and bare steps, and steps whose folders are timed"""
FOLDERS = ("views", "losses", "memory", "clustering", "diagnostics")
"""files and folders of the package whose time in the forward pass is measured"""


def cases() -> list[tuple[str, str]]:
    """Returns methods with the sizes of the small recipe, and, if these differ, with the sizes of the paper."""
    return [(name, sizes) for name in of_images() for sizes in ("small", "paper") if sizes == "small" or of_paper(name)]


def of_paper(name: str) -> dict[str, Any]:
    """Returns the paper's sizes that differ from those of the small recipe."""
    chosen = methods.method_class(name)
    paper, small = chosen(), chosen.under(chosen.small)
    pairwise = ("width",) if chosen.family == "redundancy reduction" else ()  # whose loss is of all pairs of dimensions
    sizes = [f.name for f in fields(chosen) if f.name in SIZES + pairwise]
    return {size: getattr(paper, size) for size in sizes if getattr(paper, size) != getattr(small, size)}


@dataclass
class Call:
    """A call of a module, or of one of its functions, in a real step."""

    function: Callable[..., Any]
    args: Any
    kwargs: Any
    graph: bool
    """True if gradients were enabled"""
    gradients: dict[int, dict[int, Tensor]] = field(default_factory=lambda: defaultdict(dict))
    """gradients of the outputs, by update and index of the output"""


@dataclass
class Watched:
    """A method whose calls of its networks are recorded up to each yield."""

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
        """Context manager that records every outermost call of a module, or of another function of its class."""
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

        def recorded(function: Callable[..., Any]) -> Callable[..., Any]:
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
            setattr(module, name, recorded(getattr(module, name)))
        try:
            yield
        finally:
            for module, name in functions:
                delattr(module, name)
            for handle in handles:
                handle.remove()

    def _keep(self, call: Call, place: int, gradient: Tensor) -> None:
        """Stores the gradient of an output. Samples made before one player's update may get it in another's."""
        call.gradients[len(self.updates) - 1][place] = gradient.clone()


def _functions(module: nn.Module) -> set[str]:
    """Returns the functions of an encoder besides forward: tokens, stages, …"""
    classes = [c for c in type(module).__mro__ if c.__module__.startswith("sanslabel.encoders")]
    names = {name for c in classes for name, value in vars(c).items() if isfunction(value)}
    return {name for name in names if not name.startswith("_") and not name.endswith("_") and name != "forward"}


def _leaf(value: Any) -> Any:
    return value.detach().requires_grad_(value.requires_grad) if isinstance(value, Tensor) else value


class Steps:
    """Complete and bare steps of a method on the same networks."""

    def __init__(self, name: str, sizes: str, device: torch.device) -> None:
        chosen = methods.method_class(name)
        hyperparameters = dict(chosen.small.hyperparameters) | (of_paper(name) if sizes == "paper" else {})
        of_recipe = encoders.encoder_options(chosen.small.encoder)
        encoder = of_recipe if of_recipe["name"] in SPECIAL else encoders.encoder_options(ENCODER)
        data = noise(SAMPLES, 3, SIDE)
        self.device, self.encoder = device, encoder["name"]
        self.training = prepared(
            chosen(**hyperparameters),
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
        self.complete()
        self.watched.updates.clear()
        with self.watched.listening(self.training.net):
            self.record = self.complete()
        self.updates = [*self.watched.updates, ("", self.watched.calls)]

    def complete(self) -> Record:
        """Does everything that a run does between two steps, except the line of figures."""
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
def by_folder(device: torch.device) -> Iterator[dict[str, float]]:
    """Context manager that adds up the time of the functions in each folder of the package, without the networks that
    they call and the backward pass."""
    folder = str(Path(sanslabel.__file__).parent)
    starts = {f"{folder}/{name}": name for name in FOLDERS} | {torch.nn.modules.module.__file__: ""}
    seconds = dict.fromkeys(FOLDERS, 0.0)
    within: list[str] = []  # the folders and networks that are being called, the innermost last
    last = 0.0

    def trace(frame: Any, event: str, _: Any) -> None:
        nonlocal last
        if event not in ("call", "return"):
            return
        file = frame.f_code.co_filename
        name = next((name for start, name in starts.items() if file.startswith(start)), None)
        if name is None:
            return
        finish(device)
        now = time.perf_counter()
        if within and within[-1]:
            seconds[within[-1]] += now - last
        within.append(name) if event == "call" else within.pop()
        last = now

    sys.setprofile(trace)
    try:
        yield seconds
    finally:
        sys.setprofile(None)


def measured(name: str, sizes: str, device: torch.device, rounds: int = ROUNDS) -> dict[str, Any]:
    """Returns the line of a case."""
    with reproducible(device):
        steps = Steps(name, sizes, device)
        taken = interleaved({"whole": steps.complete, "bare": steps.bare}, device, rounds, at_least=1.0)
        with figures(steps.training) as write:
            line = median_seconds({"line": lambda: write(steps.record)}, device, rounds=3)["line"] / LOG_EVERY
        profiles = []
        for _ in range(PROFILED):
            with by_folder(device) as seconds:
                steps.complete()
            profiles.append(seconds)
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
        **{f"{name}_seconds": median(seconds[name] for seconds in profiles) for name in FOLDERS},
    }


def lines(device: torch.device) -> Iterator[dict[str, Any]]:
    for name, sizes in cases():
        yield measured(name, sizes, device)


REASONS = {
    "ebgan": "its networks take an eighth of a second, beside which noise and the checks of two updates weigh more",
    "cpc": "its loss is three products of 8,064 predictions, 6,272 patches and 512 numbers in float32",
}
"""reasons for shares above a tenth, by method"""
TEXT = f"""## The share of a step that is not the network's

Color images of {SIDE}x{SIDE} in batches of {BATCH} from a set of {SAMPLES:,}, in the precision and memory format of
`sanslabel train`. The encoder is ResNet-18 with its stem for small images; methods that need a transformer or a
discriminator have one. Sizes are those of the small recipe, and once more the paper's if its queue, bank or head is
another. NPID and PIRL have all of the bank as negatives in the small recipe, and draw some in the paper.

One real step records the calls that a method makes of its networks, teachers included. The bare step makes these calls
alone, on the same inputs and with the same gradients of their outputs, then backward and update. Complete and bare
steps take turns. The rest of the complete step is the share of everything else, with its quartiles over {ROUNDS} turns:
views, loss and its gradient, memories and the averages of teachers, norms of gradients, loading, and figures every
tenth step. If the quartiles include zero, or are below it, the share is too small to measure. The four columns of
milliseconds are for the forward pass, in which CPC, NPID, PIRL and MoCo also compute the gradient of their loss in
chunks. None of them includes k-means at the end of an epoch.
"""
HEAD = ("method", "encoder", "step, ms", "all else", "", "views", "loss", "memory", "figures", "")


def section(results: list[dict[str, Any]]) -> str:
    table_rows = []
    for line in results:
        sizes = ", ".join(_size(*size) for size in line["sizes"].items())
        step = line["whole_seconds"] + line["line_seconds"]
        columns = [f"{1000 * line[f'{name}_seconds']:.0f}" for name in ("views", "losses")]
        memory = 1000 * (line["memory_seconds"] + line["clustering_seconds"])
        watching = 1000 * (line["diagnostics_seconds"] + line["line_seconds"])
        low, share, high = (100 * value for value in line["share_quartiles"])
        reason = REASONS.get(line["method"], "") if share > 10 else ""
        cells = [line["method"] + (f" ({sizes})" if sizes else ""), line["encoder"], f"{1000 * step:.0f}"]
        cells += [f"{share:.1f} %", f"{low:.1f} to {high:.1f}", *columns, f"{memory:.0f}", f"{watching:.0f}", reason]
        table_rows.append(cells)
    return f"{TEXT}\n{table(HEAD, table_rows, right=range(2, 9))}\n"


def _size(name: str, value: Any) -> str:
    if name == "shared":
        return "drawn for each image"
    return f"queue of {value:,}" if name == "queue" else f"{value:,} {'dimensions' if name == 'width' else name}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--methods", nargs="+", default=of_images())
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--sizes", nargs="+", default=["small", "paper"])
    flags = parser.parse_args()
    for name, sizes in cases():
        if name in flags.methods and sizes in flags.sizes:
            print(json.dumps(measured(name, sizes, torch.device(flags.device), flags.rounds)), flush=True)


if __name__ == "__main__":
    main()
