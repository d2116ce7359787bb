"""Datasets: where they come from, and MNIST's file format."""
