"""A batch of episodes, and its interfaces for other libraries. It knows neither the learner nor files."""
