"""Predicting, and the compact store of probabilities that later stages read."""
