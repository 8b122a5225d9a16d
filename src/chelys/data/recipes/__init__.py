"""Corpora: manifests of published ones and of folders of clips, and the synthetic corpus that nano learns from."""
