"""Chapter 03, power diagrams."""
