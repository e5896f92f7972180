"""The front page: its network and its picture."""
