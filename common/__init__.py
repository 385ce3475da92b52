"""What every layer may use and nothing here knows any layer: user errors and safe file writing. Never imports torch."""
