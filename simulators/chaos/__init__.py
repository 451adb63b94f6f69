"""Chaos: gateways stream while processes are killed, connections cut and clocks moved; at the end every figure counts.

site        the enterprises and gateways of a run, registered through the API
stream      one process of gateways: a timeline of its own, written, sent, and remembered with every answer
ledger      what was sent and what was answered, in the gateways' own store
blows       what happens when, drawn from a seed
processes   the victims that somebody else starts again: a JSON file of names and process ids
conductor   runs the streams and deals the blows
verdict     what must hold afterwards
"""
