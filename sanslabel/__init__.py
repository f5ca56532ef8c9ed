"""sanslabel: learn an image encoder from pictures without labels, and measure it."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sanslabel.version import __version__ as __version__

if TYPE_CHECKING:
    from sanslabel import encoders, generation, losses, methods, views
    from sanslabel.evaluation import evaluate
    from sanslabel.run_folder import load_encoder
    from sanslabel.training.run import resume, train

_HOMES = {
    "evaluate": "sanslabel.evaluation",
    "load_encoder": "sanslabel.run_folder",
    "resume": "sanslabel.training.run",
    "train": "sanslabel.training.run",
}
_FOLDERS = {"encoders", "generation", "losses", "methods", "views"}

__all__ = ["encoders", "evaluate", "generation", "load_encoder", "losses", "methods", "resume", "train", "views"]


def __dir__() -> list[str]:
    """Returns the public names, for `dir` and for completion."""
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used (PEP 562), since torch alone takes two seconds to import."""
    if name in _FOLDERS:
        return import_module(f"sanslabel.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'sanslabel' has no attribute {name!r}")
