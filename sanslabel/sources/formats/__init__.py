"""Formats of data, one file each, found by looking: a file in this folder, or in SANSLABEL_PATH/formats, is a format.

A format has two functions. `splits(data)` returns the names of the splits of a path or name, and None if it is of
another format. `open_source(data, split, wanted)` returns the source. It may have `NAMES`, the sets that are known by
name, and `FALLBACK = True` if it reads only what no other format does.
"""

from sanslabel.discovery import search_path

__path__ = search_path(__path__, "formats")
