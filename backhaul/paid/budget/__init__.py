"""What calls may spend: the rule, the ledger of one cap, and the budget of an attempt."""
