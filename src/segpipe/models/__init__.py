"""Architectures, and the description that a checkpoint carries to rebuild its model."""
