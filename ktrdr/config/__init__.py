"""The programs' settings: the environment, `.env`, and the group that is running already."""
