"""Tiny copies of the paper's data sets in their published layouts, of made-up media, to rehearse with.

In every modality something follows from the class, so a model learns; figures on a mock mean nothing else.
"""
