"""Users: profiles, and the decisions on consent."""
