"""The frozen values that every other package uses, and the rules about them that need no store."""
