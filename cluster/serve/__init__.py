"""One process that holds an index open: an HTTP API, and a page to search with."""
