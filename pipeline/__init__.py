"""All arithmetic and storage, from pictures to fused rankings. It does not know Ray."""
