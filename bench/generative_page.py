"""The page docs/generative.md and its plots, from the lines that `bench.generative` wrote."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from bench.learning_page import spread

TEMPLATE = Path(__file__).parent / "generative.template.md"
ENERGIES = torch.linspace(0, 0.75, 151)
"""edges of the histograms of EBGAN's energies; higher energies count in the last bin"""

Row = dict[str, Any]
Cell = str | tuple[Callable[[Row], float | None], str]
"""a field's name, or a number and its format: a mean ± deviation over seeds"""


def rendered(rows: list[Row], docs: Path) -> None:
    """Writes generative.md and generative/*.png into `docs`."""
    text = TEMPLATE.read_text()
    for part, columns in TABLES.items():
        of = [row for row in rows if row["part"] == part]
        text = text.replace(f"{{{part}}}", "\n".join(table(of, columns)))
    (docs / "generative.md").write_text(text)
    (docs / "generative").mkdir(exist_ok=True)
    if any(row["part"] == "latents" for row in rows):
        plot_latents([row for row in rows if row["part"] == "latents"], docs / "generative" / "latents.png")
    if any("histogram" in row for row in rows):
        plot_histograms([row for row in rows if "histogram" in row], docs / "generative" / "ebgan-energies.png")


def table(rows: list[Row], columns: dict[str, Cell]) -> Iterator[str]:
    """Yields the table as lines of Markdown; lines of results with the same names are its seeds."""
    named = [cell for cell in columns.values() if isinstance(cell, str)]
    yield "| " + " | ".join(columns) + " |"
    yield "|---" * len(columns) + "|"
    for key in dict.fromkeys(tuple(row.get(name) for name in named) for row in rows):
        seeds = [row for row in rows if tuple(row.get(name) for name in named) == key]
        cells = [str(seeds[0].get(c, "")) if isinstance(c, str) else spread_of(seeds, *c) for c in columns.values()]
        yield "| " + " | ".join(cells) + " |"


def spread_of(rows: list[Row], value: Callable[[Row], float | None], form: str) -> str:
    return spread([x for row in rows if (x := value(row)) is not None], form)


def field(*names: str, times: float = 1.0) -> Callable[[Row], float | None]:
    """Returns a function of a line of results: a number in it, or in a dictionary in it, or None."""

    def value(row: Row) -> float | None:
        content: Any = row
        for name in names:
            content = (content or {}).get(name)
        return None if content is None else times * content

    return value


SECONDS: Cell = (field("core_seconds"), "{:.0f}")
TABLES: dict[str, dict[str, Cell]] = {
    "latents": {
        "representation": "representation",
        "epochs": "epoch",
        "core seconds": SECONDS,
        "kNN": (field("knn"), "{:.1f}"),
        "linear": (field("linear"), "{:.1f}"),
        "purity": (field("purity"), "{:.1f}"),
        "silhouette": (field("silhouette"), "{:.3f}"),
        "nats, ELBO": (field("nats", "negative evidence lower bound"), "{:.1f}"),
        "nats, 64 draws": (field("nats", "importance-weighted, 64 draws"), "{:.1f}"),
    },
    "denoising": {
        "corruption": "corruption",
        "amount": "amount",
        "core seconds": SECONDS,
        "corrupted": (field("noisy"), "{:.3f}"),
        "median filter": (field("median filter"), "{:.3f}"),
        "DAE": (field("denoised"), "{:.3f}"),
        "above the mean of the two": (field("above the mean", times=100), "{:.1f} %"),
        "above both": (field("above both", times=100), "{:.1f} %"),
    },
    "adversaries": {
        "method": "method",
        "epochs": "epoch",
        "core seconds": SECONDS,
        "Fréchet distance": (field("distance"), "{:.2f}"),
        "of training images": (field("floor"), "{:.2f}"),
        "precision": (field("precision"), "{:.2f}"),
        "recall": (field("recall"), "{:.2f}"),
        "energy of data": (field("mean energy", "real"), "{:.3f}"),
        "of samples": (field("mean energy", "fake"), "{:.3f}"),
    },
    "outliers": {
        "method": "method",
        "AUROC": (field("plain"), "{:.3f}"),
        "less complexity": (field("less complexity"), "{:.3f}"),
    },
}


def plot_latents(rows: list[Row], path: Path) -> None:
    """Draws how classes separate in a VAE's posterior means over the epochs, beside references without epochs."""
    from matplotlib.figure import Figure

    shown = {"knn": "kNN, %", "purity": "purity of 10 clusters, %", "silhouette": "silhouette of the classes"}
    figure = Figure(figsize=(10.5, 3.4), layout="constrained")
    for axes, (name, label) in zip(figure.subplots(1, 3), shown.items(), strict=True):
        way = [row for row in rows if row["representation"] == "VAE"]
        epochs = sorted({row["epoch"] for row in way})
        seeds = torch.tensor([[row[name] for row in way if row["epoch"] == epoch] for epoch in epochs])
        axes.plot(epochs, seeds.mean(1), marker="o", color="tab:blue", label="VAE, posterior mean")
        axes.fill_between(epochs, seeds.amin(1), seeds.amax(1), color="tab:blue", alpha=0.25, linewidth=0)
        for other, color in {
            "pixels": "black",
            "principal components": "tab:gray",
            "autoencoder": "tab:orange",
        }.items():
            height = fmean(row[name] for row in rows if row["representation"] == other)
            axes.axhline(height, color=color, linestyle="--", linewidth=1, label=other)
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(-0.2, 1.2 * epochs[-1])
        axes.set_xticks(epochs, [str(epoch) for epoch in epochs], fontsize=8)
        axes.minorticks_off()
        axes.set(xlabel="epochs", ylabel=label)
    figure.axes[-1].legend(fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def plot_histograms(rows: list[Row], path: Path) -> None:
    """Draws the histogram of EBGAN's energies of test images and of samples, over all seeds."""
    from matplotlib.figure import Figure

    epochs = sorted({row["epoch"] for row in rows})
    figure = Figure(figsize=(10.5, 3), layout="constrained")
    panels = figure.subplots(1, len(epochs))
    for axes, epoch in zip(panels, epochs, strict=True):
        of = [row for row in rows if row["epoch"] == epoch]
        for kind, color in {"real": "tab:green", "fake": "tab:red"}.items():
            counts = torch.tensor([row["histogram"][kind] for row in of]).sum(0)
            axes.stairs(counts / counts.sum(), ENERGIES, fill=True, alpha=0.5, color=color, label=kind)
        axes.axvline(of[0]["margin"], color="black", linestyle="--", linewidth=1, label="margin")
        axes.set(title=f"epoch {epoch}", xlabel="energy", yticks=[], xlim=(0, 0.3) if epoch else None)
    panels[0].legend()
    figure.savefig(path, dpi=110, metadata={"Software": None})
