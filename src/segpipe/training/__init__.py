"""Fitting a model: optimisers and schedules, the loop, and who listens."""
