"""Figures of chapter 06 that are longer than a cell of its notebook."""
