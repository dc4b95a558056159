"""What learns: policies and learners on top of Stable-Baselines3. No word about robots."""
