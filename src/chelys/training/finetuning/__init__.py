"""Adapting a finished model to a voice: material, stages, stopping, and the folder that comes of it."""
