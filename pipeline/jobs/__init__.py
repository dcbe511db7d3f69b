"""Whole jobs: from settings to an index, rankings, a report or a status."""
