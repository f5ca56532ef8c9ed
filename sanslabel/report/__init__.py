"""A page that shows one run, or several side by side."""

from sanslabel.report.document import report

__all__ = ["report"]
