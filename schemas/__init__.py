"""Everything that is stored or configured: frozen pydantic models and Arrow schemas. No I/O."""
