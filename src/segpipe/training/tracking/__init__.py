"""Who hears of a training run while it goes on: Weights & Biases, DVCLive. They decide nothing and may fail."""
