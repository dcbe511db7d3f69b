"""From a source to images with ids, and from an image to RGB pixels or a named refusal."""
