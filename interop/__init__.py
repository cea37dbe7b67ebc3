"""Our daemon and clients side by side with upstream's."""
