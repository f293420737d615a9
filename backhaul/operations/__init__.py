"""The acts of operators, with their own credentials: dead letters, repairs, the intake, providers and breakers."""
