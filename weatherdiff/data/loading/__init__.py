"""Behind `WindowDataset`: frames of a store, or of the user's own data, to batches of windows."""
