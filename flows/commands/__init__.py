"""The commands of ``digits``, one file each: no Prefect, no TensorFlow at import."""
