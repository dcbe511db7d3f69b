"""Extract activations from pictures: one network, one fixed recipe, all layers in one pass."""
