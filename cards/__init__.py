"""Dataset cards, statistics and plots."""
