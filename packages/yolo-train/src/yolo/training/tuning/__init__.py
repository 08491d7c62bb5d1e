"""Help with settings: measure batch sizes, loaders and learning rates, and suggest what to use."""
