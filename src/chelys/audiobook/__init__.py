"""A book in, an audiobook out: every sentence kept, checked, and computed once.

``store`` keeps what was computed, ``stages`` makes takes of sentences, ``hearing`` says when each word is spoken.
"""
