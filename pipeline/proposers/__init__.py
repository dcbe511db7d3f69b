"""What proposes likely images of a segment without a look at all: indexes of FAISS."""
