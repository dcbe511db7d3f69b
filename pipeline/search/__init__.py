"""From layers of a segment to ranked images: score, bound, fuse, merge."""
