"""What is measured of a model, and the process that measures stored ones."""
