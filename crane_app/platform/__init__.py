"""The machine under us: sound, the system's voice. What differs by system is a small module each."""
