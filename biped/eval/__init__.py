"""Evaluation: figures and verdicts from recorded trajectories. No learning, no simulator."""
