"""Figures for readers. Every function takes a Scope; decimals leave as text, exact to the last digit.

Signs: energy of a unit = in + feedstock - out - recovered; feedstock is part of the sum and also stands apart, so that
it can be left out where a rule says so. A sum of equivalent or equal values is null when one of its rows has no factor.
"""
