"""Outsiders: gateways, officials and their faults. They speak only MQTT and HTTP, import nothing of the service."""
