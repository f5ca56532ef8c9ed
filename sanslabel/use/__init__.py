"""Commands that put encoders and data to use."""
