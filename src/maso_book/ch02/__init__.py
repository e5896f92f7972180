"""Chapter 02, toy partitions."""
