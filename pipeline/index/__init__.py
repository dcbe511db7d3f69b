"""Build what a search reads from the visual words of images: bags, posting lists, weights."""
