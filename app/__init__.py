"""Nenghao: online monitoring of the energy use of a city's key enterprises."""
