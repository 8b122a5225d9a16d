"""A book in, an audiobook out: every sentence kept, checked, and computed once.

``readers`` read books, ``script`` says how they are spoken, ``narrate`` makes the files; ``store`` keeps what was
computed, ``stages`` makes takes of sentences, ``verify`` judges them, ``board`` shows them, ``recipe`` repeats a file.
"""
