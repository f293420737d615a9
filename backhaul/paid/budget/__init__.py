"""What calls may spend: the rule, the books of one cap, and the budget of an attempt."""
