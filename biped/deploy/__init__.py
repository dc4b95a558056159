"""From a policy to a robot: contract, formats, parity."""
