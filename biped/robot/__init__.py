"""The robot, independent of the simulator: state, rotations, actuators, dynamics, symmetry and model file."""
