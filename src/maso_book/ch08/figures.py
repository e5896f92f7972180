"""The figures of chapter 08, drawn on given axes."""
