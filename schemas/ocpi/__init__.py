"""OCPI's words: the canonical objects (those of 2.3.0) and their reading and writing in each version."""
