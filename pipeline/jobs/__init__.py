"""Whole jobs: settings in; index, rankings, report or status out."""
