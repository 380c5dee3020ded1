"""What every room stands on: artifacts, errors, configuration, progress, atomic files. No torch here."""
