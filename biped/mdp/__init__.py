"""The task as pure functions of tensors: no simulator, no files, no transfers to the host."""
