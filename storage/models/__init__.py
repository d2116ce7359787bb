"""The model store: versions, the pointer to the champion, and its history."""
