"""Data files shipped with the package: models, recipes, texts."""
