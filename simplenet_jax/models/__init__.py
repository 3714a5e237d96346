"""Networks: pure functions from pixels to scores."""
