"""Chapter 00, TITLE: what `maso new-chapter` copies."""
