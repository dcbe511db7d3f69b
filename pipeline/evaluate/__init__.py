"""Evaluate rankings: metrics, protocols, the sweep over (t, p), and the report page."""
