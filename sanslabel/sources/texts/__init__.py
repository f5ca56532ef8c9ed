"""Texts, their vocabulary, and sentences made by a grammar."""
