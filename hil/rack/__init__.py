"""Around the measurement: baselines, several boards, the user's own tests. Nothing here changes a figure."""
