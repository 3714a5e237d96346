"""Images and data sets: from files to pixels, and back to them."""
