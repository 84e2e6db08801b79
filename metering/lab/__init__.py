"""The lab: a model that isn't one, traces of real traffic, and the demo. Nothing here runs in production."""
