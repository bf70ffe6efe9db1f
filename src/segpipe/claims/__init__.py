"""Controlled experiments: arms x seeds on equal terms, and what they say about a claim."""
