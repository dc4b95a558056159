"""The learner: policies and PPO on top of Stable-Baselines3. Nothing here knows about robots."""
