"""From checked files to trials: what each costs, what is finished, and what a search proposes."""
