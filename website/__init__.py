"""How the documentation becomes a site; see CONTRIBUTING.md. Nothing here is part of the application."""
