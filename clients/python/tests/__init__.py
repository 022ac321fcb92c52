"""The client's tests: real frameworks, a real control plane, and local providers."""
