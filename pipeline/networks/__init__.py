"""Networks of any library, their layers and weights, as the extract stage uses them."""
