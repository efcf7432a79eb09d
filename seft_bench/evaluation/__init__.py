"""Money: what tokens cost, what a command may cost before it runs, and asking first and keeping to a budget."""
