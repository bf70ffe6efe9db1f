"""Losses as named terms and their weighted sum; docs/losses.md has the formulas."""
