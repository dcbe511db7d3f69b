"""Reproduce the paper's tables and figures with the networks and data sets at hand."""
