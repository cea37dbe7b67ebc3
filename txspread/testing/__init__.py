"""What the tests of programs that use txspread can import."""
