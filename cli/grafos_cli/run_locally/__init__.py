"""The "Run locally" helper: what a web page on this machine may ask the local fabric, and the page that asks it.

``guard`` says who may ask at all, ``app`` has the routes, ``work`` does what they are for, ``page`` is the Developer
tab, ``starting`` starts it all at `dev up`.
"""
