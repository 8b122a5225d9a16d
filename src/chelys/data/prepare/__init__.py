"""Raw recordings in, training shards out: ``chelys data prepare RAW OUT``.

Recordings are cut at pauses, measured, filtered, transcribed, aligned, freed of duplicates, given similar clips,
encoded and packed. ``pipeline`` holds the order, one file each a stage, ``engine`` who does the work, ``work`` where
what was done is kept, ``ledger`` the account of every clip.
"""
