"""What moves the robot: scenes behind one protocol. No rewards, no learning."""
