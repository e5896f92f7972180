"""Chapter 01, MASO proof checks."""
