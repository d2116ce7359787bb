"""What the commands print and write: tables, JSON, CSV, pages, and the options for them."""
