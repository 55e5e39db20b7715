"""What pyrovm measures of itself and of its peers, by ``pyrovm bench``."""
