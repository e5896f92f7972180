"""Chapter 07, VQ distance."""
