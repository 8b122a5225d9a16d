"""Everything of the published TorToise: its text, networks, checkpoints and Python interface.

Nothing of it is imported until a model folder of that family is loaded, or until a user imports it.
"""
