"""Lamella: batch indexing and bulk queries for image retrieval."""
