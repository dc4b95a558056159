"""What is asked of the robot: pure functions of tensors. No simulator, no files, no host reads."""
