"""Matrix products that propose, in the numbers that this CPU multiplies fastest."""
