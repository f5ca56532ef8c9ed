"""Sounds alone, and pictures with their sounds."""
