"""The HTTP API: statements and usage for programs. It is given what it serves and reads no settings."""
