"""Measure extraction and search on this machine, and where their time goes."""
