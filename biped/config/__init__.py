"""The configuration: sections with checked fields, their JSON form, and changes to single settings."""
