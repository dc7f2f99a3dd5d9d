"""Bank statements: what a bank says has reached an account, and which of our statements it pays."""
