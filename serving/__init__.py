"""What reads the champion: images made as MNIST's were, and answers that name the version."""
