"""Documents of a statement: what a creditor sends a debtor, made of a statement and who the two are.

Pure: the same statement and parties give the same bytes, today and in ten years.
"""
