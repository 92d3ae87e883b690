"""Turn a list of tasks into results, on threads of this machine."""
