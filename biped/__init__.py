"""The package behind the programs in the repository's root; each room is defined by what it may not import."""
