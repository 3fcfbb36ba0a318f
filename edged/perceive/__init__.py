"""Runs models on what capture delivers and sends observations."""
