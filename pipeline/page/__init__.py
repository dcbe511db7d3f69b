"""What all pages for people share: their frame and style, and charts."""
