"""What a reader opens: HTML pages, LaTeX tables, and tables for the terminal."""
