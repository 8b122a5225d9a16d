"""Raw recordings in, training shards out: ``chelys data prepare RAW OUT``.

Recordings are cut at pauses, measured, filtered, transcribed, aligned, deduplicated, given similar clips, encoded and
packed. ``pipeline`` has the settings and the order of the stages, ``engine`` runs them, ``work`` keeps their results,
``metadata`` is what is written of every clip.
"""

from chelys.deprecation import renamed_modules

renamed_modules({
    f"{__name__}.pack": f"{__name__}.shard_writer",
    f"{__name__}.ledger": f"{__name__}.metadata",
    f"{__name__}.settings": f"{__name__}.pipeline",
    f"{__name__}.ray_engine": f"{__name__}.engine",
})  # fmt: skip
