"""What this machine is, whether a run can start on it, and what mends it where it cannot."""
