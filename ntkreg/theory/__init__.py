"""What is known: closed forms, bounds on margins and errors, the law of the λ-path, kernels."""

from ntkreg.theory import bounds, closed_forms, error_floor, kernel_jump, kernel_span, path_law

__all__ = ["bounds", "closed_forms", "error_floor", "kernel_jump", "kernel_span", "path_law"]
