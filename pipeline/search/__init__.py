"""Rank images: score layers, bound scores, fuse layers, merge segments."""
