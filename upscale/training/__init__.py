"""Training: a recipe and pictures in; weights, their index row and their card out.

``recipes.toml`` says what is trained and how; :func:`upscale.training.trainer.train` is the loop,
the file to open first. ``data`` makes the batches (pictures damaged by ``degradations``, pairs, or
patches with a teacher's answers), ``objective``, ``adversarial`` and ``variational`` do a step
each, ``release`` writes what a run leaves. Nothing but the command line imports this room.
"""
