"""What the measurements of two chapters or more use."""
