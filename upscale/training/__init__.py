"""The recipes behind ``weights/``: data, degradations, losses, schedules, the loop."""
