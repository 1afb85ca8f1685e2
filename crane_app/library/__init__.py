"""What the user keeps, on disk: conversations, models, takes. Knows no window and no tensor."""
