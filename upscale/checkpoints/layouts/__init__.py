"""How published files name the layers of the networks."""
