"""Chapter 04, matched filters."""
