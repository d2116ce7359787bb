"""Where datasets come from, and MNIST's file format."""
