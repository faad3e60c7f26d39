"""What is known: closed forms, bounds on margins and errors, the law of the λ-path."""

from ntkreg.theory import bounds, closed_forms, path_law

__all__ = ["bounds", "closed_forms", "path_law"]
