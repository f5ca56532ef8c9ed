"""Tracked objects, cut out of the frames of videos."""
