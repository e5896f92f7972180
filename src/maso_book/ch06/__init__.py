"""Chapter 06, Orthogonal templates: what `maso new-chapter` copies."""
