"""Storage: one interface over local folders and S3, the tree of paths, commits, and tables."""
