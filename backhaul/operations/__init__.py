"""What operators do with credentials of their own: dead letters, repairs, the intake, providers and breakers."""
