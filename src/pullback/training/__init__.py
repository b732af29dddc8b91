"""Learning to register: data, one loop, recipes and checkpoints.

Nothing is imported here: preparing scans needs the libraries that read images, training from a filled cache does not.
"""
