"""From pictures to activations: one network, one fixed recipe, all layers in one pass."""
