"""Work-alikes of the programs that come with Spread."""
