"""The chat: conversations, the one in view, and how it is answered."""
