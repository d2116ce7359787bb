"""What outlives a run: records, settings, the metrics table and the model store."""
