"""Tar archives of image files, alone or several in a folder, with WebDataset's naming.

The members of a sample share one key, the path up to the first dot of the file's name: `key.jpg`. The sample's label is
in `key.cls`, or in `key.json` as "label" or "cls". Without these files, the sub-folder is the label, as in folders of
images. The samples and their order are those of a folder into which the archives were unpacked.
"""

from __future__ import annotations

from pathlib import Path

from sanslabel.sources.source import Source, Wanted
from sanslabel.sources.stores.tar_index import Index, archives, index_of


def splits(data: str | Path) -> tuple[str, ...] | None:
    """Returns the splits that archives are divided into; None for anything but archives.

    They are "train" and "test" if there are folders train/ and test/, or train/ and val/ but no test/. These are
    folders in an archive, or folders of archives. Raises BadInput for archives that cannot be read.
    """
    path = Path(data)
    return tuple(_prefixes(index_of(path))) if archives(path) else None


def open_source(data: str | Path, split: str, wanted: Wanted) -> Source | None:
    """Returns the images of a split, or of "all"; None for anything but archives. Raises BadInput."""
    path = Path(data)
    if not archives(path):
        return None
    from sanslabel.sources.pictures.images import images_from  # with Pillow, which arrays do not need
    from sanslabel.sources.stores.tar import Members

    index = index_of(path)
    folder = path.parent if path.is_file() else path
    members = Members(
        path,
        tuple(folder / shard.path for shard in index.shards),
        index.shards,
        index.names,
        index.shard,
        index.offset,
        index.size,
    )
    labels = [index.label_names[label] if label >= 0 else None for label in index.label.tolist()]
    name = path.stem if path.is_file() else path.resolve().name
    prefixes = {key: (prefix,) for key, prefix in _prefixes(index).items()}
    return images_from(members, name, split, prefixes, wanted, labels if index.label_names else None)


def _prefixes(index: Index) -> dict[str, str]:
    """Returns the folder of each split with its slash; "" for the training split of archives that are not divided."""
    folders = {name.partition("/")[0] for name in index.names if "/" in name}
    test = next((name for name in ("test", "val") if name in folders), None)
    return {"train": "train/", "test": f"{test}/"} if test and "train" in folders else {"train": ""}
