"""Moved: ``chelys.tortoise.api`` is ``chelys.tortoise.api``; this name stays for one release."""
