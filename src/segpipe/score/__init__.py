"""Scores by every definition that a leaderboard may use, for a candidate or for a folder of label maps."""
