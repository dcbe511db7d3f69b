"""Ground truth by the published rules of each data set, from its files as users download them."""
