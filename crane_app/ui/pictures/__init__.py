"""Pictures and PDFs, read into text."""
