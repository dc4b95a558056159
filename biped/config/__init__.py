"""What a number may be: sections, rules, JSON and single settings."""
