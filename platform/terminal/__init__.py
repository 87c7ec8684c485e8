"""What a person sees while it runs and at its end."""
