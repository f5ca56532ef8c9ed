"""The sections of a report, one file each: what a run folder holds -> HTML."""
