"""Fuzzing: arbitrary bytes against everything that a guest or a client can reach."""
