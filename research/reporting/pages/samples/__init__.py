"""Page of sampled groups, with each token coloured by its credit."""
