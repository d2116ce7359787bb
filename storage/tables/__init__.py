"""The metrics database: its tables, and how they are opened, read and written."""
