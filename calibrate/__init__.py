"""The measuring bench: a GPU in, a profile out."""
