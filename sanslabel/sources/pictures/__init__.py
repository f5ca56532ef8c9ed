"""Pictures in files: decoding, caching, and what all pictures of a set have in common."""
