"""How good a ranking is: metrics, protocols, the sweep over (t, p), and the report page."""
