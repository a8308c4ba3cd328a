"""Ground floor: errors, artifacts, task description, integer semantics, options, progress."""
