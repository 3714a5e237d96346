"""Public data sets: downloaded, checked, unpacked."""
