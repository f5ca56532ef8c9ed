"""The fixed list of items, the most valuable first.

The seconds are what an H100 is expected to take. Compiled networks come last: each takes most of a minute to compile.
"""

from __future__ import annotations

from functools import partial
from shutil import which

from bench.gpu import authors, exactness, learning, speed
from bench.gpu.needs import is_installed
from bench.gpu.place import Place
from bench.gpu.queue import Item
from sanslabel import methods
from sanslabel.training.compilation import COMPILERS

COMPILER, FASHION = "a C++ compiler", "Fashion-MNIST"
"""needs that are no packages"""
LIGHTLY = ("lightly", "lightning-utilities", "torchvision")
TRAINING_SECONDS = {"npid": 80, "simsiam": 120, "byol": 150, "pirl": 150, "swav": 180, "dino": 240}
"""of methods that see an image less or more often than SimCLR"""


def items() -> list[Item]:
    """Returns all items in their order."""
    return [
        *(Item(f"a/{name}", 12, partial(exactness.matched, name)) for name in methods.names()),
        *(Item(f"b/{side}", 25 if side < 224 else 45, partial(speed.view_speed, side)) for side in speed.VIEWS),
        *(Item(f"c/{encoder}", 60, partial(speed.step_speed, encoder, False)) for encoder in speed.STEPS),
        *(
            Item(f"c/{encoder}, compiled", 120, partial(speed.step_speed, encoder, True), (COMPILER, "triton"))
            for encoder in speed.STEPS
        ),
        Item("d/kornia, views", 40, speed.kornia, ("kornia", "kornia_rs")),
        Item("d/lightly, views", 60, speed.lightly, LIGHTLY),
        Item("d/lightly, step", 90, speed.lightly_step, LIGHTLY),
        *(Item(f"f/{name}", 110, partial(authors.side_by_side, name), (FASHION,)) for name in authors.LOOPS),
        *(
            Item(f"e/{name}", TRAINING_SECONDS.get(name, 120), partial(learning.learned, name), (FASHION,))
            for name in (*learning.CONVOLUTIONS, *learning.TRANSFORMERS)
        ),
        *(
            Item(f"a/{name}, compiled", 60, partial(exactness.compiled, name), (COMPILER, "triton"))
            for name in methods.names()
        ),
    ]


def absent(item: Item, place: Place) -> list[str]:
    """Returns the needs of an item that are not met here. A rehearsal has its own images, and compiles nothing."""
    met = {COMPILER: any(map(which, COMPILERS)), FASHION: place.toy or place.fashion is not None, "triton": place.toy}
    return [need for need in item.needs if not (met.get(need) or is_installed(need))]
