"""Export of a policy for a robot: contract, file formats and parity check."""
