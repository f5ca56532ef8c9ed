"""Folders of data, and the classes, splits, labels and copies that they state."""
