"""The frozen values that everything else speaks of, and the rules about them that need no store."""
