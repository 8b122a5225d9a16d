"""Old name: ``chelys.compat.tortoise`` moved to ``chelys.tortoise.api``; this package stays for one release."""
