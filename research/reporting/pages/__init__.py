"""Pages for readers: HTML, LaTeX tables, and tables for the terminal."""
