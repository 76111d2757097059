"""The recipes behind ``weights/``: data, degradations, losses, schedules, and the loop that runs them."""
