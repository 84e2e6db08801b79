"""How far our own counts are from the providers': see `__main__`."""
