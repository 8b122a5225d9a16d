"""Raw recordings in, training shards out: ``chelys data prepare RAW OUT``.

Recordings are cut at pauses, measured, filtered, transcribed, aligned, deduplicated, given similar clips, encoded and
packed. ``pipeline`` has the settings and the order of the stages, ``engine`` runs them, ``work`` keeps their results,
``metadata`` is what is written of every clip.
"""
