"""Pseudo labels: which of the teachers' pixels and images are kept, and how good they are likely to be."""
