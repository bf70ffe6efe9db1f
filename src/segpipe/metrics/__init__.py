"""Scores: confusion matrices and IoU, and how sure they are."""
