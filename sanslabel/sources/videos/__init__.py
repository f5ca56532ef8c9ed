"""Videos and folders of frames."""
