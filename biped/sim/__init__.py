"""The simulators: scenes behind one protocol. No rewards, no learning."""
