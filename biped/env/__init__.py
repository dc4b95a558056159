"""A batch of episodes: its faces for other libraries. It knows neither the learner nor files."""
