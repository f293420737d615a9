"""What a processor's author meets: the contract, its context, its options, and how processors are found."""
