"""Figures of chapter 09."""
