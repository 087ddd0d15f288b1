"""Recipes: each file is one command, from the data to the folder of a model."""
