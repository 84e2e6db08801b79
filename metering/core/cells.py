"""Text for spreadsheets. A cell that begins like a formula is run by the program that opens the file."""

# OWASP ASVS 5.0, 1.2.10: escape CSV and formula injection, by a leading quote.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠")


def escape_cell(text: str) -> str:
    """`text` as a spreadsheet will show it: a leading `'` where it would be taken for a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
