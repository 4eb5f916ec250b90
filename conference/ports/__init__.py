"""Protocol classes in domain words. `conference.adapters` implements them; workers and functions use nothing else."""
