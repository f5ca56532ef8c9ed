"""The sections of a report, one file each: the content of run folders -> HTML."""
