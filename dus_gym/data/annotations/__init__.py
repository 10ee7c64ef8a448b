"""Parsers of the annotation files as they were published: one module a data set, text in, records out."""
