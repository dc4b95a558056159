"""What a robot is, whoever moves it: state, rotations, actuators, dynamics, symmetry, model file."""
