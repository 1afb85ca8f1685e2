"""The machine under us: sound, the system's voice. No window, no tensor; what differs by system is a small module each."""
