"""Stores of named bytes: files in a folder, or members of archives."""
