"""The stand-in provider: OpenAI, Anthropic and Google wire dialects with faults on demand."""
