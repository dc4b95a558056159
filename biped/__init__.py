"""What the programs in the repository's root are made of; each room is defined by what it may not know."""
