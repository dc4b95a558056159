"""How well it walks: recorded trajectories in, figures and verdicts out; no learning, no simulator."""
