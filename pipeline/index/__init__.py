"""From words of images to what a search reads: bags, postings, weights."""
