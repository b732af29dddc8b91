"""Learning to register: data, one loop, recipes and checkpoints."""
