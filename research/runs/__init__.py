"""A recipe in a folder: trained, continued, evaluated, and what the folder then holds."""
