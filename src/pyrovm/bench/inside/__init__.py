"""What runs inside the lab; it may import the standard library and pyrovm, nothing else of ours."""
