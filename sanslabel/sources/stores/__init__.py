"""Stores answer names and bytes: files in a folder, or members of archives."""
