"""From events to subscribers, and nothing lost between."""
