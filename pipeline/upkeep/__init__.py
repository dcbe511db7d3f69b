"""Care of a store: what must be there, what is damaged, what is spent, and how it is mended."""
