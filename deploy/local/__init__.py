"""Real PostgreSQL with TimescaleDB and a real Mosquitto on one machine, without Docker.

Everything lives in one git-ignored folder, on its own ports, so that a server which is already
on the machine is neither used nor disturbed.
"""
