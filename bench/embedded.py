"""How the two sets that ship with the package were made. Run it to make them again, byte for byte:

apt-get install dataset-fashion-mnist && pip install scikit-learn && python bench/embedded.py
"""

from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from sanslabel.randomness import fold, permutation
from sanslabel.sources.formats.idx import read

SEED = 0
DATA = Path(__file__).parents[1] / "sanslabel" / "sources" / "data"
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
FASHION = ("T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")


def drawn(labels: np.ndarray, counts: list[int], stream: int) -> np.ndarray:
    """Returns rows with `counts[c]` of each class c, ascending: the first ones of a random order of the class."""
    index = []
    for label, count in enumerate(counts):
        members = torch.from_numpy(np.flatnonzero(labels == label))
        index.append(members[permutation(fold(SEED, stream, label), len(members))[:count]])
    return torch.cat(index).sort().values.numpy()


def fashion() -> None:
    """Writes 8,000 of the 60,000 training and 2,000 of the 10,000 test images of Fashion-MNIST, as many of each class.

    Xiao, Rasul, Vollgraf 2017.
    """
    arrays = {}
    for stream, (prefix, file, count) in enumerate((("", "train", 800), ("test_", "t10k", 200))):
        images = read(FASHION_MNIST / f"{file}-images-idx3-ubyte.gz", 3)
        labels = read(FASHION_MNIST / f"{file}-labels-idx1-ubyte.gz", 1)
        index = drawn(labels, [count] * 10, stream)
        arrays |= {f"{prefix}images": images[index], f"{prefix}labels": labels[index]}
    np.savez_compressed(DATA / "fashion.npz", **arrays, classes=np.array(FASHION))


def digits() -> None:
    """Writes scikit-learn's 1,797 digits of 8 x 8 pixels with 17 levels, a fifth of each class as the test split."""
    images, labels = load_digits(return_X_y=True)
    images = np.rint(images * 255 / 16).astype(np.uint8).reshape(-1, 8, 8)
    test = drawn(labels, [round(count / 5) for count in np.bincount(labels)], 2)
    train = np.setdiff1d(np.arange(len(labels)), test)
    np.savez_compressed(
        DATA / "digits.npz",
        images=images[train],
        labels=labels[train].astype(np.uint8),
        test_images=images[test],
        test_labels=labels[test].astype(np.uint8),
        classes=np.array([str(digit) for digit in range(10)]),
    )


if __name__ == "__main__":
    fashion()
    digits()
