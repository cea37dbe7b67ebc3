"""Every byte layout of Spread 4, declared once, and the codecs derived from it."""
