"""Chapter 08, Augmentation as a Hessian penalty: what `maso new-chapter` copies."""
