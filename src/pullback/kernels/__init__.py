"""Compiled CPU loops behind :mod:`pullback.functional`; nothing else calls them.

Every kernel works on C-contiguous float32 volumes ``(I, J, K)`` or fields ``(3, I, J, K)``; 2-D images come as volumes
with a first axis of one voxel. Each output voxel is computed from the inputs alone, in an order that does not depend on
the number of threads, and sums over voxels are first made per slice and then added in order: the results are the same
to the last bit with any number of threads.
"""
