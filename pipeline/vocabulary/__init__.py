"""Visual words: approximate k-means over growing batches, as functions of arrays."""
