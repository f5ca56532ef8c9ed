"""The sentences below the fields of dataclasses, from their source: help of flags and of functions."""

from __future__ import annotations

import ast
import inspect
import textwrap


def field_sentences(kind: type) -> dict[str, str]:
    """Returns the sentence below each field of a dataclass and of its bases, by the field's name.

    Fields of a class without source text, such as one that a function made, are left out.
    """
    sentences: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError, SyntaxError):
            continue
        lines = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for line, below in zip(lines, lines[1:], strict=False):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                text = (
                    below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
                )
                sentences[line.target.id] = " ".join(str(text).split())
    return sentences
