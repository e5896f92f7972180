"""Chapter 05, memorization."""
