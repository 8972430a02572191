"""What the programs are told: the environment, `.env`, and the group that is running already."""
